"""Real Chromium, headless, at real previews and a real gateway; collected by `make test-browser`."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import zipfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest

from contracts.previews import Preview
from tests.gateway.conftest import StartGateway, start_gateway
from tests.publisher.conftest import World, world

__all__ = ["start_gateway", "world"]

collect_ignore_glob = [] if os.environ.get("TEST_BROWSER") else ["test_*.py"]

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def chromium() -> str | None:
    """Debian's, or the one that CHROMIUM names."""
    named = os.environ.get("CHROMIUM")
    return named or next((path for name in NAMES if (path := shutil.which(name))), None)


@dataclass
class Stage:
    """A browser's context, where it can publish what it looks at, and the API that must stay out of reach."""

    context: Any
    world: World
    api: str
    frames: str  # an origin that may embed previews
    strangers: str  # and one that may not
    console: list[str] = field(default_factory=list)

    async def publish(self, files: Mapping[str, str | bytes], task: UUID | None = None) -> Preview:
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        sent = await self.world.submit(task or self.world.task(), made.getvalue())
        return await self.world.ended(sent.id)

    async def open(self, url: str | None) -> Any:
        page = await self.context.new_page()
        page.on("console", lambda message: self.console.append(message.text))
        await page.goto(url)
        return page


@asynccontextmanager
async def _page_server(html: bytes) -> AsyncIterator[str]:
    """Serves one page at an origin of its own."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {len(html)}\r\nconnection: close\r\n\r\n"
        writer.write(head.encode() + html)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.fixture
async def stage(world: World, start_gateway: StartGateway) -> AsyncIterator[Stage]:
    from playwright.async_api import async_playwright

    executable = chromium()
    if executable is None:
        pytest.fail("there is no Chromium: install it (`apt install chromium`), or name it: CHROMIUM=/path/to/chromium")
    async with (
        _page_server(b"<title>cockpit</title>") as frames,
        _page_server(b"<title>stranger</title>") as strangers,
        world.start_publisher(preview_frames=frames),
        start_gateway() as gateway,
        async_playwright() as playwright,
    ):
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = await playwright.chromium.launch(executable_path=executable, args=arguments)
        context = await browser.new_context()
        context.set_default_timeout(60_000)
        yield Stage(context, world, gateway.url, frames, strangers)
        await browser.close()
