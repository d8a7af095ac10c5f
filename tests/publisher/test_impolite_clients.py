"""Clients that do not read what they asked for, never finish asking, or ask for what RFC 9110 forbids."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, tzinfo
from uuid import uuid4

import httpx
import pytest

from chassis.blobs import CONNECTIONS
from contracts.previews import CreateShare
from services.publisher.serving import application, sites
from tests.publisher.conftest import World
from tests.publisher.test_serving import Browser, root

FILM = random.Random(2).randbytes(8 * 2**20)
SITE = {"index.html": b"<p>film", "film.mp4": FILM}


@asynccontextmanager
async def stalled(url: str, count: int) -> AsyncIterator[None]:
    """So many clients that ask for it, read the first bytes of the answer, and then nothing more."""
    asked, open_ = httpx.URL(url), list[socket.socket]()
    loop = asyncio.get_running_loop()
    try:
        for _ in range(count):
            client = socket.socket()
            open_.append(client)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            await loop.sock_connect(client, ("127.0.0.1", asked.port))
            lines = f"GET {asked.raw_path.decode()} HTTP/1.1\r\nHost: {asked.netloc.decode()}\r\n\r\n"
            await loop.sock_sendall(client, lines.encode())
            assert (await loop.sock_recv(client, 12)).startswith(b"HTTP/1.1 200")
        yield
    finally:
        for client in open_:
            client.close()


async def test_who_does_not_read_keeps_nobody_from_the_object_store(world: World) -> None:
    async with world.start_publisher(cache=65_536), httpx.AsyncClient(timeout=60) as http:
        browser = Browser(world, http)
        preview = await browser.publish(SITE)
        url = f"{preview.url}film.mp4"
        async with stalled(url, CONNECTIONS):
            answer = await browser.get(url)
            assert (answer.status_code, answer.content == FILM) == (200, True)
            again = await browser.publish({"index.html": b"<p>another"}, preview.task_id)
            assert again.version == 2


@pytest.fixture
async def browser(world: World) -> AsyncIterator[Browser]:
    async with world.start_publisher(), httpx.AsyncClient(headers={"accept-encoding": "identity"}, timeout=60) as http:
        yield Browser(world, http)


SCRIPT = b"export const answer = 42;\n" * 100


async def test_only_a_get_has_parts_and_only_what_would_be_sent_is_known(browser: Browser) -> None:
    preview = await browser.publish({"index.html": b"<p>one", "app.js": SCRIPT, "data.bin": SCRIPT})
    head = await browser.get(f"{preview.url}data.bin", method="HEAD", range="bytes=0-9")
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(SCRIPT)))
    url = f"{preview.latest_url}app.js"
    packed = (await browser.get(url, **{"accept-encoding": "gzip"})).headers["etag"]
    known = await browser.get(url, **{"accept-encoding": "gzip", "if-none-match": packed})
    assert (known.status_code, known.headers["etag"]) == (304, packed)
    other = await browser.get(url, **{"if-none-match": packed})
    assert (other.status_code, other.content) == (200, SCRIPT)


async def test_a_page_that_waits_comes_back_by_itself_although_it_may_run_nothing(browser: Browser) -> None:
    """A browser ignores `<meta http-equiv=refresh>` in a sandbox without scripts."""
    world = browser.world
    ready = await browser.publish({"index.html": b"<p>one"})
    await world.rows("update previews set state = 'publishing', ready_at = null where id = $1", ready.id)
    await world.rows("update sites set latest = null, revision = revision + 1 where task_id = $1", ready.task_id)
    waiting = await browser.get(root(ready.latest_url), accept="text/html")
    assert (waiting.status_code, waiting.headers["retry-after"], waiting.headers["refresh"]) == (503, "1", "1")
    assert b"http-equiv" not in waiting.content


async def test_a_shared_link_is_over_on_time_also_while_nobody_can_be_asked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sites, "FRESH", float("inf"))  # what was said once is all there is, as in an outage
    async with world.start_publisher(), httpx.AsyncClient(timeout=60) as http:
        browser = Browser(world, http)
        preview = await browser.publish({"index.html": b"<p>one"})
        share = await world.ask(CreateShare(command_id=uuid4(), preview_id=preview.id))
        assert (await browser.get(share.url or "")).status_code == 200
        monkeypatch.setattr(application, "datetime", stopped_at(share.expires_at))
        assert (await browser.get(share.url or "")).status_code == 410


def stopped_at(moment: datetime) -> type[datetime]:
    class Stopped(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Stopped:
            return cls.fromtimestamp(moment.timestamp(), tz)

    return Stopped
