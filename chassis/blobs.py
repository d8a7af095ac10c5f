"""Large payloads in the object store, under content addresses: written before the row that names them, verified on read.

The stores we meet differ in what they support beyond put, get, head, delete and list (rclone's server, 1.75, ignores
If-None-Match and forgets types and metadata when it restarts), so nothing beyond those is used: keys are immutable
(`<company>/<sha256>`), names and types live in Postgres. What lies under PASSING belongs to a request or its answer, and
to nobody after it; what lies under STAGED is as old as the message it is the body of.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cache
from io import SEEK_END
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import SecretStr

from chassis.settings import ServiceSettings
from contracts.errors import Code, Rejection, RetryLater
from contracts.refs import BlobRef

PASSING = "_rpc"  # in place of a company, and no name that one could have
STAGED = "_facts"  # before a company: bodies of large facts, which nothing names any more when their messages are gone
PAGE = 1000  # keys per list
PART = 5 * 2**20  # bytes of a file that are in memory at once; S3 takes no smaller parts
CONNECTIONS = 64  # at once: many uploads must not keep one read waiting
CHUNK = 2**18  # bytes of a body that are read at once
NO_UPLOADS = frozenset({"NoSuchUpload", "NotImplemented", "MethodNotAllowed"})  # what stores say instead of "none"
SILENCE = 10  # seconds without a byte until a call is given up
SECOND = 1.0  # the store's clock counts no less
PIECE = 2**19  # bytes that are fetched at once for who may be slow to take them


@cache
def session(region: str | None) -> Any:
    """One for all clients of a process: each would read S3's description from disk again."""
    import aioboto3  # a second of start-up that most processes never need

    return aioboto3.Session(region_name=region)


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
                settings = self._settings
                made = await asyncio.to_thread(session, settings.s3_region)
                from botocore.config import Config

                config = Config(
                    s3={"addressing_style": settings.s3_addressing_style},
                    request_checksum_calculation="when_required",  # or rclone fails ranged reads
                    response_checksum_validation="when_required",
                    max_pool_connections=CONNECTIONS,
                    connect_timeout=5,
                    read_timeout=SILENCE,
                    retries={"total_max_attempts": 2, "mode": "standard"},  # who asks waits, and asks again by itself
                )
                self._client = await self._stack.enter_async_context(
                    made.client(
                        "s3",
                        endpoint_url=settings.s3_endpoint_url,
                        aws_access_key_id=_plain(settings.s3_access_key_id),
                        aws_secret_access_key=_plain(settings.s3_secret_access_key),
                        aws_session_token=_plain(settings.s3_session_token),
                        verify=_authorities(settings),
                        config=config,
                    )
                )
            return self._client

    async def put(self, data: bytes, *, company: str, content_type: str) -> BlobRef:
        """Store bytes and say where. Storing the same bytes again is harmless."""
        digest = hashlib.sha256(data).hexdigest()
        ref = BlobRef(key=f"{company}/{digest}", sha256=digest, size=len(data), content_type=content_type)
        await self._put(ref, data)
        return ref

    async def put_file(self, path: Path, *, company: str, content_type: str, sha256: str | None = None) -> BlobRef:
        """The same of a file, of any size in little memory. `sha256` when it is known."""
        known = await asyncio.to_thread(sha256_of, path) if sha256 is None else sha256
        file = await asyncio.to_thread(path.open, "rb")
        try:
            return await self.put_open(file, company=company, content_type=content_type, sha256=known)
        finally:
            file.close()

    async def put_open(self, file: BinaryIO, *, company: str, content_type: str, sha256: str) -> BlobRef:
        """The same of a file that is open, and need have no name."""
        size, data = await asyncio.to_thread(_small, file)
        ref = BlobRef(key=f"{company}/{sha256}", sha256=sha256, size=size, content_type=content_type)
        if data is not None:
            await self._put(ref, data)
        else:
            await self._put_in_parts(ref, file)
        return ref

    async def _put(self, ref: BlobRef, data: bytes) -> None:
        client = await self._open()
        await self._calling(
            client.put_object(Bucket=self._settings.s3_bucket, Key=ref.key, Body=data, ContentType=ref.content_type)
        )

    async def _put_in_parts(self, ref: BlobRef, file: BinaryIO) -> None:
        """All or nothing: the object is there when the last call says so."""
        client = await self._open()
        place = {"Bucket": self._settings.s3_bucket, "Key": ref.key}
        begun = await self._calling(client.create_multipart_upload(**place, ContentType=ref.content_type))
        place["UploadId"] = begun["UploadId"]
        parts: list[dict[str, Any]] = []
        try:
            while data := await asyncio.to_thread(file.read, PART):
                number = len(parts) + 1
                done = await self._calling(client.upload_part(**place, PartNumber=number, Body=data))
                parts.append({"PartNumber": number, "ETag": done["ETag"]})
                del data  # before the next is read
            await self._calling(client.complete_multipart_upload(**place, MultipartUpload={"Parts": parts}))
        except (Exception, asyncio.CancelledError):
            with suppress(RetryLater, Rejection):  # what it leaves there is abandoned later
                await asyncio.shield(self._calling(client.abort_multipart_upload(**place)))
            raise

    async def get(self, ref: BlobRef) -> bytes:
        """The bytes behind a reference. Raises Rejection(not_found) when they are gone or are not what was stored."""
        data: bytes = await self._calling(self._read(ref.key))
        if hashlib.sha256(data).hexdigest() != ref.sha256:
            raise Rejection(Code.NOT_FOUND, f"the object {ref.key} is not what was stored there")
        return data

    async def get_file(self, ref: BlobRef, path: Path) -> None:
        """The same into a file, of any size in little memory. When it raises, what the file holds is worth nothing."""
        digest = hashlib.sha256()
        file = await asyncio.to_thread(path.open, "wb")
        try:
            async for data in self.stream(ref.key):
                digest.update(data)
                await asyncio.to_thread(file.write, data)
            await asyncio.to_thread(file.flush)
        finally:
            file.close()
        if digest.hexdigest() != ref.sha256:
            raise Rejection(Code.NOT_FOUND, f"the object {ref.key} is not what was stored there")

    async def stream(self, key: str, first: int = 0, last: int | None = None) -> AsyncIterator[bytes]:
        """Bytes `first` to `last`, both included, as they come: unverified. Close it when it is left early."""
        client = await self._open()
        wanted = {"Range": f"bytes={first}-{'' if last is None else last}"} if first or last is not None else {}
        answer = await self._calling(client.get_object(Bucket=self._settings.s3_bucket, Key=key, **wanted))
        body = answer["Body"]
        async with body:
            while data := await self._calling(body.read(CHUNK)):
                yield data

    async def pieces(self, key: str, first: int, last: int) -> AsyncIterator[bytes]:
        """The same for who may be slow: while nobody asks for the next piece, no connection to the store is held."""
        for begin in range(first, last + 1, PIECE):
            end = min(begin + PIECE - 1, last)
            data: bytes = await self._calling(self._read(key, Range=f"bytes={begin}-{end}"))
            yield data

    async def _read(self, key: str, **which: str) -> bytes:
        """Headers and body: the store may be lost between them."""
        client = await self._open()
        answer = await client.get_object(Bucket=self._settings.s3_bucket, Key=key, **which)
        async with answer["Body"] as body:
            data: bytes = await body.read()
        return data

    async def holds(self, ref: BlobRef) -> bool:
        """Whether something of this size is there."""
        client = await self._open()
        try:
            head = await self._calling(client.head_object(Bucket=self._settings.s3_bucket, Key=ref.key))
        except Rejection:
            return False
        return bool(head["ContentLength"] == ref.size)

    async def delete(self, key: str, *, unless_younger_than: float) -> None:
        """By the store's own clock, in seconds: bytes that were stored anew lately belong to somebody, and stay. So do those
        that were stored since this was called, however long it took."""
        client, called = await self._open(), time.monotonic()
        try:
            head = await self._calling(client.head_object(Bucket=self._settings.s3_bucket, Key=key))
        except Rejection:
            return  # it is gone
        age = (_store_time(head) - head["LastModified"]).total_seconds()
        if age - (time.monotonic() - called) >= unless_younger_than - SECOND:
            await self._calling(client.delete_object(Bucket=self._settings.s3_bucket, Key=key))

    async def older_than(self, seconds: float, prefix: str, most: int) -> list[str]:
        """Up to `most` keys below a prefix that were stored before, by the store's own clock."""
        old = list[str]()
        async for page in self.pages(prefix, seconds):
            old += page
            if len(old) >= most:
                break
        return old[:most]

    async def pages(self, prefix: str, older_than: float) -> AsyncIterator[list[str]]:
        """All keys below a prefix that were stored so many seconds before, by the store's own clock, a page at a time."""
        client = await self._open()
        wanted: dict[str, Any] = {"Bucket": self._settings.s3_bucket, "Prefix": prefix, "MaxKeys": PAGE}
        while True:
            page = await self._calling(client.list_objects_v2(**wanted))
            now, found = _store_time(page), page.get("Contents", [])
            yield [o["Key"] for o in found if (now - o["LastModified"]).total_seconds() >= older_than]
            if not (further := page.get("NextContinuationToken")):
                break
            wanted["ContinuationToken"] = further

    async def abandon(self, prefix: str, older_than: float) -> int:
        """Ends uploads in parts below a prefix that began so many seconds ago: their senders died, and the parts stay."""
        client = await self._open()
        wanted: dict[str, Any] = {"Bucket": self._settings.s3_bucket, "Prefix": prefix}
        ended, more = 0, True
        while more and (page := await self._calling(_begun(client, wanted))):
            now = _store_time(page)
            for begun in page.get("Uploads", []):
                if (now - begun["Initiated"]).total_seconds() >= older_than:
                    place = {"Bucket": self._settings.s3_bucket, "Key": begun["Key"], "UploadId": begun["UploadId"]}
                    with suppress(RetryLater):  # it has just ended, or it is for the next time
                        await self._calling(client.abort_multipart_upload(**place))
                        ended += 1
            if more := bool(page.get("IsTruncated")):
                wanted |= {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}
        return ended

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


def _plain(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None


def _authorities(settings: ServiceSettings) -> str | bool | None:
    """None: all that the machine knows, which takes 16 ms to read; a plain address has nothing to be verified."""
    if settings.s3_ca_bundle:
        return str(settings.s3_ca_bundle)
    return False if (settings.s3_endpoint_url or "").startswith("http://") else None


async def _begun(client: Any, wanted: dict[str, Any]) -> Any | None:
    """Uploads in parts; None of a store that knows of none."""
    try:
        return await client.list_multipart_uploads(**wanted)
    except client.exceptions.ClientError as error:
        if error.response["Error"]["Code"] not in NO_UPLOADS:
            raise
        return None


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _small(file: BinaryIO) -> tuple[int, bytes | None]:
    """Its size, and its bytes unless it is large."""
    size = file.seek(0, SEEK_END)
    file.seek(0)
    return size, file.read() if size <= PART else None


def _store_time(answer: Any) -> datetime:
    return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
