"""Server-sent events: frames, bounded mailboxes between who tells and who watches, and how a stream ends.

A stream ends with `end` (the run is over), `bye` (this gateway stops), `reconnect` (it has lived its time, or the watcher
was too slow) or because the client left; in every case the client resumes by its last id.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from prometheus_client import Gauge
from starlette.responses import StreamingResponse

from contracts.errors import RetryLater

T = TypeVar("T")

OPEN = Gauge("sse_streams_open", "Streams that watchers hold open")

RETRY_MS = 2000
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
HEARTBEAT = b": still here\n\n"
BYE, LIFE_OVER, TOO_SLOW, REBUILT = "bye", "life over", "too slow", "rebuilt"


@dataclass(frozen=True, slots=True)
class Frame:
    """One event. An `id` of "" makes the client forget the last one; None leaves it alone."""

    event: str
    data: str
    id: str | None = None
    retry: int | None = None

    def encode(self) -> bytes:
        lines = [] if self.id is None else [f"id: {self.id}"]
        if self.retry is not None:
            lines.append(f"retry: {self.retry}")
        lines.append(f"event: {self.event}")
        lines += [f"data: {line}" for line in self.data.split("\n")]
        return ("\n".join(lines) + "\n\n").encode()


def opening() -> bytes:
    """Sent at once, so that the client knows it is connected before anything happens."""
    return f"retry: {RETRY_MS}\n\n".encode()


def ending(reason: str) -> bytes:
    """Clients of a gateway that stops come back spread over two seconds, not all at once."""
    data = json.dumps({"reason": reason})
    if reason == BYE:
        return Frame("bye", data, retry=random.randint(200, RETRY_MS)).encode()
    return Frame("reconnect", data).encode()


class Mailbox(Generic[T]):
    """Between the one reader of the feed and one watcher: bounded, because a slow watcher must not cost memory."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: asyncio.Queue[T | None] = asyncio.Queue()
        self.closed: str | None = None

    def put(self, item: T) -> None:
        if self.closed is None and self._items.qsize() >= self._size:
            self.close(TOO_SLOW)
        elif self.closed is None:
            self._items.put_nowait(item)

    def close(self, reason: str) -> None:
        """What was put before is still delivered."""
        if self.closed is None:
            self.closed = reason
            self._items.put_nowait(None)

    async def delivered(self, *, heartbeat: float, life: float) -> AsyncIterator[T | None]:
        """Items as they come; None when it is time for a heartbeat. Ends when closed, or when `life` seconds are over."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + life
        while True:
            left = deadline - loop.time()
            if left <= 0:
                self.close(LIFE_OVER)
            try:
                item = await self._next(min(heartbeat, max(left, 0.001)))
            except TimeoutError:
                yield None
                continue
            if item is None:
                return
            yield item

    async def _next(self, timeout: float) -> T | None:
        if not self._items.empty():
            return self._items.get_nowait()  # a timer per item would cost more than the item
        async with asyncio.timeout(timeout):
            return await self._items.get()


class Streams:
    """All streams of this process: counted, limited, and told when it stops."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: set[Mailbox[Any]] = set()
        self._draining = False

    def refuse_when_full(self) -> None:
        if self._draining or len(self._open) >= self._limit:
            raise RetryLater(2.0, "this gateway takes no more streams right now; connect again")

    @contextmanager
    def open(self, mailbox: Mailbox[Any]) -> Iterator[None]:
        self._open.add(mailbox)
        OPEN.set(len(self._open))
        if self._draining:
            mailbox.close(BYE)
        try:
            yield
        finally:
            self._open.discard(mailbox)
            OPEN.set(len(self._open))

    async def drain(self) -> None:
        self._draining = True
        for mailbox in list(self._open):
            mailbox.close(BYE)


class EventStream(StreamingResponse):
    media_type = "text/event-stream"

    def __init__(self, frames: AsyncIterator[bytes]) -> None:
        super().__init__(frames, headers=HEADERS, media_type=self.media_type)
