"""Large payloads in the object store, under content addresses: written before the row that names them, verified on read.

The stores we meet differ in what they support beyond put, get, head, delete and list (rclone's server, 1.75, ignores
If-None-Match and forgets types and metadata when it restarts), so nothing beyond those is used: keys are immutable
(`<company>/<sha256>`), names and types live in Postgres. What lies under PASSING belongs to a request or its answer, and
to nobody after it; what lies under STAGED is as old as the message it is the body of.
"""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import AsyncExitStack
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from chassis.settings import ServiceSettings
from contracts.errors import Code, Rejection, RetryLater
from contracts.refs import BlobRef

PASSING = "_rpc"  # in place of a company, and no name that one could have
STAGED = "_facts"  # before a company: bodies of large facts, which nothing names any more when their messages are gone
PAGE = 1000  # keys per list


class Blobs:
    """A client of one bucket. Connects on first use: most processes never touch a large payload."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self._client: Any = None
        self._stack = AsyncExitStack()
        self._opening = asyncio.Lock()

    async def _open(self) -> Any:
        async with self._opening:
            if self._client is None:
                import aioboto3  # a second of start-up that most processes never need
                from botocore.config import Config

                secret = self._settings.s3_secret_access_key
                key = self._settings.s3_access_key_id
                config = Config(
                    s3={"addressing_style": "path"},
                    request_checksum_calculation="when_required",  # or rclone fails ranged reads
                    response_checksum_validation="when_required",
                    connect_timeout=5,
                    read_timeout=30,
                    retries={"max_attempts": 3, "mode": "standard"},
                )
                session = aioboto3.Session(region_name=self._settings.s3_region)
                self._client = await self._stack.enter_async_context(
                    session.client(
                        "s3",
                        endpoint_url=self._settings.s3_endpoint_url,
                        aws_access_key_id=key.get_secret_value() if key else None,
                        aws_secret_access_key=secret.get_secret_value() if secret else None,
                        config=config,
                    )
                )
            return self._client

    async def put(self, data: bytes, *, company: str, content_type: str) -> BlobRef:
        """Store bytes and say where. Storing the same bytes again is harmless."""
        digest = hashlib.sha256(data).hexdigest()
        ref = BlobRef(key=f"{company}/{digest}", sha256=digest, size=len(data), content_type=content_type)
        client = await self._open()
        await self._calling(
            client.put_object(Bucket=self._settings.s3_bucket, Key=ref.key, Body=data, ContentType=content_type)
        )
        return ref

    async def get(self, ref: BlobRef) -> bytes:
        """The bytes behind a reference. Raises Rejection(not_found) when they are gone or are not what was stored."""
        data: bytes = await self._calling(self._read(ref.key))
        if hashlib.sha256(data).hexdigest() != ref.sha256:
            raise Rejection(Code.NOT_FOUND, f"the object {ref.key} is not what was stored there")
        return data

    async def _read(self, key: str) -> bytes:
        """Headers and body: the store may be lost between them."""
        client = await self._open()
        answer = await client.get_object(Bucket=self._settings.s3_bucket, Key=key)
        async with answer["Body"] as body:
            data: bytes = await body.read()
        return data

    async def delete(self, key: str, *, unless_younger_than: float) -> None:
        """By the store's own clock, in seconds: bytes that were stored anew lately belong to somebody, and stay."""
        client = await self._open()
        try:
            head = await self._calling(client.head_object(Bucket=self._settings.s3_bucket, Key=key))
        except Rejection:
            return  # it is gone
        if (_store_time(head) - head["LastModified"]).total_seconds() >= unless_younger_than:
            await self._calling(client.delete_object(Bucket=self._settings.s3_bucket, Key=key))

    async def older_than(self, seconds: float, prefix: str, most: int) -> list[str]:
        """Up to `most` keys below a prefix that were stored before, by the store's own clock."""
        client, old = await self._open(), list[str]()
        wanted: dict[str, Any] = {"Bucket": self._settings.s3_bucket, "Prefix": prefix, "MaxKeys": PAGE}
        while len(old) < most:
            page = await self._calling(client.list_objects_v2(**wanted))
            now = _store_time(page)
            aged = (o for o in page.get("Contents", []) if (now - o["LastModified"]).total_seconds() >= seconds)
            old += [o["Key"] for o in aged]
            if not (further := page.get("NextContinuationToken")):
                break
            wanted["ContinuationToken"] = further
        return old[:most]

    async def _calling(self, call: Any) -> Any:
        from aiohttp import ClientError as TransportError  # what reads a body raises, before botocore sees it
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return await call
        except ClientError as error:
            if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                raise Rejection(Code.NOT_FOUND, "the object is not in the store") from error
            raise RetryLater(2.0, f"the object store refused: {error}") from error
        except (BotoCoreError, TransportError, OSError) as error:
            where = self._settings.s3_endpoint_url or "the default endpoint"
            raise RetryLater(2.0, f"the object store at {where} does not answer: {error or repr(error)}") from error

    async def ready(self) -> None:
        """Raise when the bucket cannot be reached."""
        client = await self._open()
        await self._calling(client.head_bucket(Bucket=self._settings.s3_bucket))

    async def aclose(self) -> None:
        await self._stack.aclose()


def _store_time(answer: Any) -> datetime:
    return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
