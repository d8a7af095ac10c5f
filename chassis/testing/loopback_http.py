"""A small HTTP/1.1 server on loopback that knows when a client hangs up, and can hang up on it: what fakes need."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Self


class Dropped(Exception):
    """The server decided to break the connection."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    method: str
    path: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes


class HttpResponse:
    """Written to while the request is handled: either `send` once, or `start`, `chunk`… and `finish`."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self._head(status, {"content-type": "application/json", **(headers or {}), "content-length": str(len(body))})
        self._writer.write(body)
        await self._writer.drain()

    async def json(self, status: int, value: Any, headers: Mapping[str, str] | None = None) -> None:
        await self.send(status, json.dumps(value).encode(), headers)

    async def start(self, status: int, headers: Mapping[str, str]) -> None:
        self._head(status, {**headers, "transfer-encoding": "chunked"})
        await self._writer.drain()

    async def chunk(self, data: bytes) -> None:
        self._writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        await self._writer.drain()

    async def finish(self) -> None:
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        known = status in HTTPStatus._value2member_map_
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase if known else 'Unknown'}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._writer.write("\r\n".join([*lines, "", ""]).encode())


Handler = Callable[[HttpRequest, HttpResponse], Awaitable[None]]


class LoopbackHttp:
    """Serves `handle`, which is cancelled when its client hangs up and breaks the connection by raising Dropped."""

    def __init__(self, handle: Handler, port: int = 0) -> None:
        self._handle = handle
        self._port = port
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        assert self._server is not None, "the server is not started"
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None, "the server is not started"
        self._server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def serve_forever(self) -> None:
        assert self._server is not None, "the server is not started"
        await self._server.serve_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "asyncio runs a connection in a task of its own"
        self._open.add(task)
        try:
            await self._converse(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, Dropped):
            writer.transport.abort()
        finally:
            self._open.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        read = b""
        while True:
            request = await _request(read, reader)
            hang_up = asyncio.ensure_future(reader.read(1))
            work = asyncio.ensure_future(self._handle(request, HttpResponse(writer)))
            try:
                await asyncio.wait({hang_up, work}, return_when=asyncio.FIRST_COMPLETED)
                if not work.done() and hang_up.result() == b"":
                    return
                await work
                read = hang_up.result() if hang_up.done() else b""
            finally:
                await _stop(hang_up, work)


async def _stop(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, ConnectionError, Dropped):
            await task


async def _request(read: bytes, reader: asyncio.StreamReader) -> HttpRequest:
    head = read + await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").strip().split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return HttpRequest(method, path, headers, body)
