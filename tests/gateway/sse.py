"""A client of server-sent events that remembers what it read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx


@dataclass
class Frame:
    event: str = "message"
    data: str = ""
    id: str | None = None


@dataclass
class Reader:
    """`frames` and `comments` grow while the stream is open; `ended` is set when the server has closed it."""

    response: httpx.Response
    frames: list[Frame] = field(default_factory=list)
    comments: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    ended: bool = False

    @property
    def messages(self) -> list[Frame]:
        return [frame for frame in self.frames if frame.event == "message"]

    def events(self) -> list[str]:
        return [frame.event for frame in self.frames]

    async def until(self, condition: Callable[[Reader], bool], timeout: float = 60.0) -> Reader:
        async with asyncio.timeout(timeout):
            while not condition(self):
                assert not self.ended, f"the stream ended after {self.events()}"
                self.changed.clear()
                await self.changed.wait()
        return self

    async def until_end(self, timeout: float = 60.0) -> Reader:
        async with asyncio.timeout(timeout):
            while not self.ended:
                self.changed.clear()
                await self.changed.wait()
        return self

    async def _read(self) -> None:
        frame, seen = Frame(), False
        try:
            async for line in self.response.aiter_lines():
                if not line:
                    if seen:
                        self.frames.append(frame)
                    frame, seen = Frame(), False
                elif line.startswith(":"):
                    self.comments += 1
                else:
                    name, _, value = line.partition(": ")
                    if name in ("event", "data", "id"):
                        setattr(frame, name, value)
                        seen = True
                self.changed.set()
        finally:
            self.ended = True
            self.changed.set()


@asynccontextmanager
async def watch(
    client: httpx.AsyncClient, url: str, last_event_id: str = "", headers: dict[str, str] | None = None
) -> AsyncIterator[Reader]:
    headers = (headers or {}) | ({"Last-Event-ID": last_event_id} if last_event_id else {})
    async with client.stream("GET", url, headers=headers, timeout=None) as response:
        assert response.status_code == 200, await response.aread()
        reader = Reader(response)
        reading = asyncio.create_task(reader._read())
        try:
            yield reader
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
