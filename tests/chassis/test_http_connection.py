"""Connections of clients that never finish asking or do not read end; those of slow ones that do go on."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from chassis import http_connection
from chassis.http_connection import Connection
from chassis.testing.eventually import eventually

LARGE = bytes(8 * 2**20)  # more than the buffers of a connection take
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def large(scope: dict[str, Any], receive: Any, send: Any) -> None:
    headers = [(b"content-length", str(len(LARGE)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": LARGE})


@asynccontextmanager
async def serving(app: Any = large) -> AsyncIterator[tuple[uvicorn.Server, int]]:
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, http=Connection, lifespan="off", log_level="warning", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    running = asyncio.create_task(server._serve([listening]))
    try:
        yield server, listening.getsockname()[1]
    finally:
        server.should_exit = True
        await running


@asynccontextmanager
async def a_client(port: int) -> AsyncIterator[socket.socket]:
    """With room for little, so that the server notices what is not read."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
    try:
        yield client
    finally:
        client.close()


async def rest(client: socket.socket) -> bytes:
    """All that still comes, until the end."""
    loop, read = asyncio.get_running_loop(), bytearray()
    try:
        while data := await loop.sock_recv(client, 2**20):
            read += data
    except ConnectionResetError:
        pass
    return bytes(read)


async def say(client: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(client, data)


async def test_a_head_that_is_too_long_is_told_so() -> None:
    async with serving() as (_, port), a_client(port) as client:
        await say(client, b"GET / HTTP/1.1\r\nX-More: " + b"x" * (http_connection.LONGEST_HEAD + 1))
        answer = await rest(client)
        assert answer.startswith(b"HTTP/1.1 400")
        assert b"head of the request" in answer


async def test_a_request_that_names_two_hosts_is_refused() -> None:
    """Which of them counts is where a proxy and we could differ."""
    async with serving() as (server, port), a_client(port) as client:
        await say(client, b"POST / HTTP/1.1\r\nHost: localhost\r\nhost: evil\r\nContent-Length: 2\r\n\r\n{}" + GET)
        answer = await rest(client)
        assert answer.startswith(b"HTTP/1.1 400")
        assert b"more than one Host" in answer
        assert answer.count(b"HTTP/1.1") == 1, "nothing behind it is heard"
        assert server.server_state.total_requests == 0


async def test_who_never_finishes_asking_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connection, "ASKING", 0.1)
    async with serving() as (server, port), a_client(port) as silent, a_client(port) as slow, a_client(port) as again:
        await say(slow, b"GET / HTTP/1.1\r\nHost:")
        await say(again, b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HT")
        for client in (silent, slow, again):
            await rest(client)
        await eventually(lambda: not server.server_state.connections, what="the end of all three")


async def test_who_reads_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connection, "READING", 0.1)
    async with serving() as (server, port), a_client(port) as client:
        await say(client, GET)
        await eventually(lambda: server.server_state.total_requests, what="the request")
        await eventually(lambda: not server.server_state.connections, what="the end of who reads nothing")


async def test_who_reads_slowly_reads_to_the_end() -> None:
    loop = asyncio.get_running_loop()
    async with serving() as (server, port), a_client(port) as client:
        await say(client, GET)
        connection: Any = await eventually(lambda: next(iter(server.server_state.connections), None))
        await eventually(lambda: connection.flow.write_paused, what="a reader who is waited for")
        read, before = 0, connection.transport.get_write_buffer_size()
        while connection.transport.get_write_buffer_size() == before:
            read += len(await loop.sock_recv(client, 65_536))
        connection._has_not_read(before)  # as its timer does
        assert read + len(await rest(client)) > len(LARGE)
