"""The one reader of the feed in a process: reads what is new once, and hands it to everybody who watches its run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

import structlog

from chassis.pausing import happens_within
from chassis.postgres import CONNECTION_LOST
from services.gateway.domain.cursor import Cursor
from services.gateway.news import News
from services.gateway.store import Feed, Told
from services.gateway.stream import REBUILT, Mailbox

log = structlog.get_logger(__name__)

PAGE = 1000
JOIN_PATIENCE = 10.0
AFTER_FAILURE = 0.5


@dataclass(eq=False, slots=True)
class Watcher:
    company: str
    run_id: UUID
    mailbox: Mailbox[News]
    #: the head when the reader first read for this watcher: what comes later is in the mailbox, the rest in the table
    joined: asyncio.Future[Cursor] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Tail:
    def __init__(self, feed: Feed, *, poll: float) -> None:
        self._feed = feed
        self._poll = poll
        self._watchers: set[Watcher] = set()
        self._seen: dict[str, Cursor] = {}  # per company that is watched here
        self._wake = asyncio.Event()

    async def hear(self, _: bytes) -> None:
        """The doorbell of the gateway that projects."""
        self._wake.set()

    @asynccontextmanager
    async def watch(self, company: str, run_id: UUID, mailbox: Mailbox[News]) -> AsyncIterator[Cursor]:
        """From the yielded cursor on, every fact of the run comes into the mailbox. TimeoutError without a database."""
        watcher = Watcher(company, run_id, mailbox)
        self._watchers.add(watcher)
        self._wake.set()
        try:
            async with asyncio.timeout(JOIN_PATIENCE):
                joined_at = await watcher.joined
            yield joined_at
        finally:
            self._watchers.discard(watcher)

    async def run(self, stop: asyncio.Event) -> None:
        stopping = asyncio.create_task(self._wake_up(stop))
        while not stop.is_set():
            await self._pause()
            try:
                await self._advance()
            except CONNECTION_LOST as error:
                log.warning("tail.database_gone", error=str(error))
                await asyncio.sleep(AFTER_FAILURE)
        await stopping

    async def _wake_up(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._wake.set()

    async def _pause(self) -> None:
        if await happens_within(self._poll, self._wake):
            self._wake.clear()

    async def _advance(self) -> None:
        watched: dict[str, list[Watcher]] = {}
        for watcher in self._watchers:
            watched.setdefault(watcher.company, []).append(watcher)
        self._seen = {company: seen for company, seen in self._seen.items() if company in watched}
        for company, watchers in watched.items():
            await self._advance_company(company, watchers)

    async def _advance_company(self, company: str, watchers: list[Watcher]) -> None:
        head = await self._feed.head(company)
        seen = self._seen.get(company, head)
        if seen.epoch not in ("", head.epoch):
            self._begin_anew(watchers)
            seen = head
        news: list[Told] = []
        if head.position > seen.position:
            runs = {w.run_id for w in watchers if w.joined.done()}
            news = await self._feed.news(company, runs, after=seen.position, upto=head.position, limit=PAGE)
        self._hand_out(head.epoch, news, watchers)
        full = len(news) == PAGE
        self._seen[company] = Cursor(head.epoch, news[-1].position) if full else head
        if full:
            self._wake.set()
        for watcher in watchers:
            if not watcher.joined.done():
                watcher.joined.set_result(self._seen[company])

    def _begin_anew(self, watchers: list[Watcher]) -> None:
        """The feed was restored or rebuilt: positions mean something else now, so everybody starts again."""
        for watcher in watchers:
            if watcher.joined.done():
                watcher.mailbox.close(REBUILT)

    def _hand_out(self, epoch: str, news: list[Told], watchers: list[Watcher]) -> None:
        by_run: dict[UUID | None, list[News]] = {}
        for told in news:
            by_run.setdefault(told.run_id, []).append(News(epoch, told))
        for watcher in watchers:
            if watcher.joined.done():
                for item in by_run.get(watcher.run_id, ()):
                    watcher.mailbox.put(item)
