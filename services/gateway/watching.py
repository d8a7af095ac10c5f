"""What a watcher of a run gets: its facts from where the client left off, or the tokens its nodes are producing now."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

import structlog

from chassis.bus import Bus, SlowWatcher
from chassis.postgres import CONNECTION_LOST
from contracts.executor import NodeToken
from contracts.subjects import Kind, story
from services.gateway.domain.cursor import resume
from services.gateway.news import News
from services.gateway.store import Feed, Told
from services.gateway.stream import HEARTBEAT, TOO_SLOW, Frame, Mailbox, Streams, ending, opening
from services.gateway.tail import Tail

log = structlog.get_logger(__name__)

PAGE = 500
UNREADABLE = "the feed cannot be read right now"


@dataclass(frozen=True, slots=True)
class Watching:
    feed: Feed
    tail: Tail
    bus: Bus
    streams: Streams
    queue: int
    heartbeat: float
    life: float

    async def facts(self, company: str, run_id: UUID, last_event_id: str | None) -> AsyncIterator[bytes]:
        """Every fact of the run after the one the client saw last, without gap and without repeat, until the stream ends."""
        mailbox: Mailbox[News] = Mailbox(self.queue)
        yield opening()
        with self.streams.open(mailbox):
            try:
                async with self.tail.watch(company, run_id, mailbox) as head:
                    start = resume(last_event_id, head)
                    if start.reset:
                        yield reset(run_id, start.reset)
                    async for told in self._history(company, run_id, start.after, head.position):
                        yield News(head.epoch, told).frame
                    async for news in mailbox.delivered(heartbeat=self.heartbeat, life=self.life):
                        yield news.frame if news else HEARTBEAT
            except CONNECTION_LOST as error:
                log.warning("watching.database_gone", error=repr(error))
                mailbox.close(UNREADABLE)
        yield ending(mailbox.closed or UNREADABLE)

    async def _history(self, company: str, run_id: UUID, after: int, upto: int) -> AsyncIterator[Told]:
        while after < upto:
            page = await self.feed.news(company, [run_id], after=after, upto=upto, limit=PAGE)
            for told in page:
                yield told
            after = page[-1].position if len(page) == PAGE else upto

    async def tokens(self, company: str, run_id: UUID) -> AsyncIterator[bytes]:
        """Pieces of text as the models produce them now; nothing is stored, so nothing can be resumed."""
        subject = story(Kind.LIVE, company, NodeToken.owner, NodeToken.entity, NodeToken.verb, run_id)
        mailbox: Mailbox[bytes] = Mailbox(self.queue)
        yield opening()
        with self.streams.open(mailbox):
            pumping = asyncio.create_task(self._pump(subject, mailbox))
            try:
                async for body in mailbox.delivered(heartbeat=self.heartbeat, life=self.life):
                    yield HEARTBEAT if body is None else Frame("token", body.decode("utf-8", "replace")).encode()
            finally:
                pumping.cancel()
                await asyncio.gather(pumping, return_exceptions=True)
        yield ending(mailbox.closed or "")

    async def _pump(self, subject: str, mailbox: Mailbox[bytes]) -> None:
        try:
            async with self.bus.watch(subject) as live:
                async for _, body in live:
                    mailbox.put(body)
        except SlowWatcher:
            mailbox.close(TOO_SLOW)


def reset(run_id: UUID, reason: str) -> bytes:
    """The client's id is unknown here: forget what was seen, the run is told again from its beginning."""
    reload = f"/runs/{run_id}?include_events=200"
    return Frame("reset", json.dumps({"reason": reason, "reload": reload}), id="").encode()
