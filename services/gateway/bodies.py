"""Request bodies: read within a limit and refused with a reason before any model sees what could not be stored or echoed."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any, NoReturn

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contracts.errors import Code, Rejection
from services.gateway.domain.roles import READING
from services.gateway.problems import Malformed

MAX_DEPTH = 32
SLOWEST = 4096  # bytes per second of a body, after its first piece and beyond twice the patience for a pause
#: a string (also one that never ends: searching on inside it would be quadratic), or a bracket
TOKENS = re.compile(rb'"(?:\\.|[^"\\])*(?:"|\\?\Z)|[\[{]|[\]}]', re.DOTALL)
#: these take files, which are read as they come (`uploads.py`); JSON goes the way of all JSON
TAKES_FILES = re.compile(r"/(?:tasks/[^/]+/(?:artifacts|previews/publish)|knowledge/documents)$")
JSON_TYPE = re.compile(r"^application/(?:[\w.+-]+\+)?json\s*(?:;|$)", re.IGNORECASE)


class Bodies:
    def __init__(self, app: ASGIApp, *, limit: int, idle: float) -> None:
        self.app = app
        self._limit = limit
        self._idle = idle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            refuse_nul(scope)
            if scope["method"] not in READING:
                arriving = Arriving(receive, self._idle)
                receive = arriving if is_file(scope) else await self._checked(scope, arriving)
        await self.app(scope, receive, send)

    async def _checked(self, scope: Scope, receive: Receive) -> Receive:
        headers = Headers(scope=scope)
        body = await self._read(headers, receive)
        if body:
            content_type = headers.get("content-type", "")
            if not JSON_TYPE.match(content_type):
                text = "send the body as JSON with Content-Type: application/json"
                raise Rejection(Code.UNSUPPORTED_MEDIA_TYPE, text)
            check_json(body)
        return _replay(body, receive)

    async def _read(self, headers: Headers, receive: Receive) -> bytes:
        announced = headers.get("content-length", "0")
        if announced.isdecimal() and int(announced) > self._limit:
            self._too_large()
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Malformed("the connection ended before the body did", type="incomplete")
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self._limit:
                self._too_large()
        return bytes(body)

    def _too_large(self) -> NoReturn:
        raise Rejection(Code.TOO_LARGE, f"the body is over the limit of {self._limit} bytes", limit=self._limit)


class Arriving:
    """A body as it comes, of any length, but neither with long pauses nor for ever: who sends it takes up a place."""

    def __init__(self, receive: Receive, idle: float) -> None:
        self._receive = receive
        self._idle = idle
        self._began: float | None = None
        self._size = 0
        self._is_whole = False

    async def __call__(self) -> Message:
        """Raises Rejection(request_timeout)."""
        if self._is_whole:
            return await self._receive()
        try:
            async with asyncio.timeout(self._idle):
                message = await self._receive()
        except TimeoutError:
            raise self._too_slow(f"nothing came for {self._idle:g} s") from None
        self._size += len(message.get("body", b""))
        self._is_whole = not message.get("more_body", False)
        if self._trickles() and not self._is_whole:
            raise self._too_slow(f"it comes slower than {SLOWEST:,} bytes a second")
        return message

    def _trickles(self) -> bool:
        """Asked of each piece as it comes: who has paused is told of the pause, however slow this machine is itself."""
        now = asyncio.get_running_loop().time()
        self._began = self._began or now
        return now > self._began + 2 * self._idle + self._size / SLOWEST

    def _too_slow(self, what: str) -> Rejection:
        text = f"the body was given up after {self._size:,} bytes, for {what}; send it again, without pauses"
        return Rejection(Code.REQUEST_TIMEOUT, text)


def is_file(scope: Scope) -> bool:
    """A body that is not JSON, where files are taken."""
    content_type = Headers(scope=scope).get("content-type", "")
    takes = scope["method"] == "POST" and TAKES_FILES.search(scope["path"]) is not None
    return takes and bool(content_type) and JSON_TYPE.match(content_type) is None


def _replay(body: bytes, receive: Receive) -> Receive:
    """Hands out the body that was read, then whatever else the connection has to say."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return pending.pop() if pending else await receive()

    return again


def refuse_nul(scope: Scope) -> None:
    """Postgres can store no NUL, so a filter with one can only be a mistake."""
    if b"%00" in scope["query_string"] or "\x00" in scope["path"]:
        raise Rejection(Code.BAD_REQUEST, "the URL must not contain the NUL character (%00)")


def check_json(body: bytes) -> None:
    """Raises Malformed for what is no JSON, or JSON that cannot be stored: NUL, lone surrogates, NaN, deep nesting."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed(
            f"the body is not valid UTF-8 at byte {error.start}", error.start, type="utf8_invalid"
        ) from None
    _check_depth(body)
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise Malformed(f"the body is not valid JSON: {error.msg}", error.pos) from None
    except ValueError as error:  # a number of thousands of digits
        raise Malformed(f"the body holds a number that is too large: {error}") from None
    if b"\\u" in body:
        _check_texts(value)


def _check_depth(body: bytes) -> None:
    depth = 0
    for token in TOKENS.finditer(body):
        if token[0] in (b"[", b"{"):
            depth += 1
            if depth > MAX_DEPTH:
                raise Malformed(f"the body is nested deeper than {MAX_DEPTH} levels", token.start(), type="too_deep")
        elif token[0] in (b"]", b"}"):
            depth -= 1


def _refuse_constant(name: str) -> NoReturn:
    raise Malformed(f"{name} is not valid JSON; use null or a number")


def _check_texts(value: Any) -> None:
    """NUL and lone surrogates can only have come as `\\u` escapes: raw ones are no valid JSON."""
    pending: list[tuple[tuple[str | int, ...], Any]] = [((), value)]
    while pending:
        loc, item = pending.pop()
        if isinstance(item, dict):
            for key, child in item.items():
                _check_text(key, loc)
                pending.append(((*loc, key), child))
        elif isinstance(item, list):
            pending.extend(((*loc, n), child) for n, child in enumerate(item))
        elif isinstance(item, str):
            _check_text(item, loc)


def _check_text(text: str, loc: tuple[str | int, ...]) -> None:
    if "\x00" in text:
        raise Malformed("text must not contain the NUL character (\\u0000)", *loc, type="text_invalid")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise Malformed(
            "text must not contain lone surrogates (\\ud800 to \\udfff)", *loc, type="text_invalid"
        ) from None
