"""Files that clients send: read as they come onto the disk, hashed and counted on the way; memory stays flat."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import re
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NoReturn, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from chassis.blobs import Blobs
from contracts.artifacts import object_key
from contracts.errors import Code, Rejection, RetryLater
from contracts.refs import BlobRef
from services.gateway.multipart import AROUND, Form
from services.gateway.problems import Malformed

FORM = "multipart/form-data"
BYTES = {"schema": {"type": "string", "format": "binary"}}
AT_ONCE = 2**20  # bytes that are in memory before they are written
STORED_AT_ONCE = 2  # each takes some MB of memory on its way into the object store
MEDIA_TYPE = re.compile(
    r"[\w!#$&^.+-]{1,100}/[\w!#$&^.+-]{1,100}", re.ASCII
)  # what it is called is kept with the bytes
FULL_FOR = 2.0  # seconds
NO_ROOM = 10.0  # seconds until a full disk is tried again


@dataclass(slots=True)
class Upload:
    """What was sent, open at its beginning and gone from the disk when it is closed. `type` is what the client calls it."""

    file: BinaryIO
    name: str | None
    type: str
    size: int
    sha256: str
    fields: Mapping[str, str] = field(default_factory=dict)


class Uploads:
    """`async with uploads.receive(request, limit=…) as upload: ref = await uploads.store(upload, …)`"""

    def __init__(self, blobs: Blobs, most: int) -> None:
        self._blobs = blobs
        self._most = most
        self.under_way = 0
        self._storing = asyncio.Semaphore(STORED_AT_ONCE)

    @asynccontextmanager
    async def receive(self, request: Request, *, limit: int) -> AsyncIterator[Upload]:
        """Of a form its `file`, otherwise the whole body. Raises Rejection, and RetryLater when too many are at it."""
        refuse_announced(request, limit)
        if self.under_way >= self._most:
            raise RetryLater(FULL_FOR, f"{self._most} files are being received already; try again")
        self.under_way += 1
        try:
            with tempfile.TemporaryFile() as file:  # has no name: whatever happens to us, nothing is left of it
                spool = Spool(file, limit)
                try:
                    yield await _received(request, spool)
                except ClientDisconnect:
                    raise Malformed("the connection ended before the file did", type="incomplete") from None
                except OSError as error:
                    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                        raise
                    text = f"the gateway's disk has no room for a file: {error.strerror}; try again later"
                    raise RetryLater(NO_ROOM, text) from None
        finally:
            self.under_way -= 1

    async def store(
        self, upload: Upload, *, company: str, content_type: str, place: Callable[[str, str], str] = object_key
    ) -> BlobRef:
        """Where deliverables lie, unless `place` says otherwise: a key for a company's content of this sha256."""
        key = place(company, upload.sha256)
        async with self._storing:
            return await self._blobs.put_open(
                upload.file, company=key.rpartition("/")[0], content_type=content_type, sha256=upload.sha256
            )


E = TypeVar("E", bound=BaseModel)


def form_fields(kind: type[E], given: Mapping[str, str | None]) -> E:
    """The texts beside a file. Raises RequestValidationError, as for any body."""
    return _valid(kind, {name: value for name, value in given.items() if value is not None})


async def json_body(request: Request, kind: type[E]) -> E:
    """In place of a file. `bodies.py` has looked at it."""
    body = await request.body()
    if not body:
        raise Malformed("send a file, or JSON; this has no body", type="missing")
    return _valid(kind, json.loads(body))


def _valid(kind: type[E], given: object) -> E:
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise RequestValidationError([{**each, "loc": ("body", *each["loc"])} for each in error.errors()]) from None


def described_upload(fields: type[BaseModel], instead: type[BaseModel], *raw: str) -> dict[str, Any]:
    """The `openapi_extra=` of a route that takes a file in a form or as its body, or JSON instead."""
    form = _schema_of(fields)
    form["properties"], form["required"] = {"file": BYTES["schema"], **form["properties"]}, ["file"]
    content = {FORM: {"schema": form}, **dict.fromkeys(raw, BYTES), "application/json": {"schema": _schema_of(instead)}}
    return {"requestBody": {"required": True, "content": content}}


def _schema_of(kind: type[BaseModel]) -> dict[str, Any]:
    """With what it refers to in its place: FastAPI knows nothing of models that no parameter has."""
    schema = kind.model_json_schema()
    parts = schema.pop("$defs", {})
    schema["properties"] = {
        name: {**parts[each.pop("$ref").rpartition("/")[2]], **each} if "$ref" in each else each
        for name, each in schema["properties"].items()
    }
    return schema


def media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def refuse_announced(request: Request, limit: int) -> None:
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > limit + AROUND:
        too_large(limit)


def too_large(limit: int) -> NoReturn:
    raise Rejection(Code.TOO_LARGE, f"the file is over the limit of {limit} bytes", limit=limit)


class Spool:
    """Bytes on their way to the disk."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self._file = file
        self._limit = limit
        self._digest = hashlib.sha256()
        self._waiting = bytearray()
        self.size = 0

    def take(self, data: bytes) -> None:
        self.size += len(data)
        if self.size > self._limit:
            too_large(self._limit)
        self._waiting += data

    async def settle(self, least: int = AT_ONCE) -> None:
        if len(self._waiting) >= least:
            await asyncio.to_thread(self._write)

    def _write(self) -> None:
        self._digest.update(self._waiting)
        self._file.write(self._waiting)
        self._waiting.clear()

    async def done(self, name: str | None, type: str, fields: Mapping[str, str]) -> Upload:
        await self.settle(least=0)
        self._file.seek(0)
        known = type if MEDIA_TYPE.fullmatch(type) else ""
        return Upload(self._file, name, known, self.size, self._digest.hexdigest(), fields)


async def _received(request: Request, spool: Spool) -> Upload:
    if media_type(request) == FORM:
        return await _form(request, spool)
    async for chunk in request.stream():
        spool.take(chunk)
        await spool.settle()
    return await spool.done(None, media_type(request), {})


async def _form(request: Request, spool: Spool) -> Upload:
    _, options = parse_options_header(request.headers["content-type"])
    if not (boundary := options.get(b"boundary")):
        raise Malformed("the form's Content-Type names no boundary; let your HTTP library set it", type="form_invalid")
    form = Form(spool.take)
    try:
        parser = MultipartParser(boundary, form.callbacks())
        async for chunk in request.stream():
            parser.write(chunk)
            form.passed(len(chunk))
            await spool.settle()
        parser.finalize()
    except FormParserError as error:
        raise Malformed(f"the form cannot be read: {error}", type="form_invalid") from None
    if not form.has_ended:
        raise Malformed("the form ended before its last boundary", type="form_invalid")
    if not form.has_file:
        raise Malformed("the form has no file; send one as the field `file`", "file", type="missing")
    return await spool.done(form.name, form.type, form.texts())
