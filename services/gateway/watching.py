"""What a watcher of a run gets: its facts from where the client left off, or the tokens its nodes are producing now."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import structlog

from chassis.bus import Bus
from chassis.context import Context
from chassis.live import SlowWatcher
from chassis.postgres import CONNECTION_LOST
from contracts.errors import Rejection, RetryLater
from contracts.executor import GetRun
from contracts.run_facts import NodeToken
from contracts.subjects import Kind, story
from services.gateway.curtain import Curtain, course_of
from services.gateway.domain.course import Course, course_of_old
from services.gateway.domain.cursor import Cursor, resume
from services.gateway.domain.places import place
from services.gateway.news import News
from services.gateway.store import Feed, Told
from services.gateway.stream import HEARTBEAT, LIFE_OVER, TOO_SLOW, Frame, Mailbox, Streams, opening
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
    keep: float  # seconds for which facts are kept

    async def has_seen_the_end(self, company: str, run_id: UUID, last_event_id: str | None) -> bool:
        """The run is over and the client knows everything about it: there is nothing to wait for."""
        if not last_event_id:
            return False
        head = await self.feed.head(company)
        start = resume(last_event_id, head, await self.feed.floor(company))
        if start.reset or await self.feed.news(company, [run_id], after=start.after, upto=head.position, limit=1):
            return False
        return (await self._course(company, run_id, head)).is_told(datetime.now(UTC))

    async def _course(self, company: str, run_id: UUID, head: Cursor) -> Course:
        """As its facts say; of a run so old that they are gone, as its executor says."""
        course = course_of(await self.feed.telling(company, run_id, upto=head.position))
        if course.known:
            return course
        try:
            detail = await self.bus.ask(GetRun(company=company, run_id=run_id, include_nodes=False), Context())
        except (Rejection, RetryLater) as refusal:
            log.info("watching.course_unknown", run_id=str(run_id), reason=str(refusal))
            return course
        forgotten_before = datetime.now(UTC) - timedelta(seconds=self.keep)
        return course_of_old(detail.run.status, detail.run.ended_at, forgotten_before)

    async def facts(
        self, company: str, run_id: UUID, last_event_id: str | None, zone: ZoneInfo | None
    ) -> AsyncIterator[bytes]:
        """Every fact of the run after the one the client saw last, without gap and without repeat, until the stream ends."""
        mailbox: Mailbox[News] = Mailbox(self.queue)
        curtain = Curtain(mailbox)
        yield opening()
        with self.streams.open(mailbox):
            try:
                async with self.tail.watch(company, run_id, mailbox) as head:
                    start = resume(last_event_id, head, await self.feed.floor(company))
                    if start.reset:
                        yield reset(company, run_id, start.reset)
                    curtain.begin(await self._course(company, run_id, head))
                    async for told in self._history(company, run_id, start.after, head.position):
                        yield News(head.epoch, told).frame_in(zone)
                    async for news in self._live(mailbox, curtain):
                        yield news.frame_in(zone) if news else HEARTBEAT
            except CONNECTION_LOST as error:
                log.warning("watching.database_gone", error=repr(error))
                mailbox.close(UNREADABLE)
        yield curtain.last_frame(UNREADABLE)

    async def _history(self, company: str, run_id: UUID, after: int, upto: int) -> AsyncIterator[Told]:
        while after < upto:
            page = await self.feed.news(company, [run_id], after=after, upto=upto, limit=PAGE)
            for told in page:
                yield told
            after = page[-1].position if len(page) == PAGE else upto

    async def _live(self, mailbox: Mailbox[News], curtain: Curtain) -> AsyncIterator[News | None]:
        """News as they come; None when it is time for a heartbeat."""
        curtain.set()
        async for news in mailbox.delivered(heartbeat=self.heartbeat, life=self.life):
            yield news
            if news is not None:
                curtain.heard([news.told])
                curtain.set()

    async def tokens(self, company: str, run_id: UUID) -> AsyncIterator[bytes]:
        """Pieces of text as the models produce them now; nothing is stored, so nothing can be resumed."""
        mailbox: Mailbox[bytes] = Mailbox(self.queue)
        audience = Audience(Curtain(mailbox))
        yield opening()
        with self.streams.open(mailbox):
            working = [
                asyncio.create_task(self._pump(_tokens_of(company, run_id), mailbox)),
                asyncio.create_task(self._until_over(company, run_id, mailbox, audience)),
            ]
            try:
                async for body in mailbox.delivered(heartbeat=self.heartbeat, life=self.life):
                    yield HEARTBEAT if body is None else Frame("token", body.decode("utf-8", "replace")).encode()
            finally:
                for task in working:
                    task.cancel()
                await asyncio.gather(*working, return_exceptions=True)
        yield audience.curtain.last_frame("", audience.at)

    async def _pump(self, subject: str, mailbox: Mailbox[bytes]) -> None:
        try:
            async with self.bus.watch(subject) as live:
                async for _, body in live:
                    mailbox.put(body)
        except SlowWatcher:
            mailbox.close(TOO_SLOW)

    async def _until_over(self, company: str, run_id: UUID, mailbox: Mailbox[bytes], audience: Audience) -> None:
        """Follows the run's facts only to hear of its end."""
        facts: Mailbox[News] = Mailbox(self.queue)
        try:
            async with self.tail.watch(company, run_id, facts) as head:
                audience.at = head
                audience.curtain.begin(await self._course(company, run_id, head))
                async for news in self._live(facts, audience.curtain):
                    if news is not None:
                        audience.at = Cursor(news.epoch, news.told.position)
            mailbox.close(facts.closed or LIFE_OVER)
        except CONNECTION_LOST as error:
            log.warning("watching.database_gone", error=repr(error))
            mailbox.close(UNREADABLE)


@dataclass(slots=True)
class Audience:
    """A watcher of tokens: `at` is how far it knows the run's facts, the id that it takes home with the end."""

    curtain: Curtain
    at: Cursor | None = None


def _tokens_of(company: str, run_id: UUID) -> str:
    return story(Kind.LIVE, company, NodeToken.owner, NodeToken.entity, NodeToken.verb, run_id)


def reset(company: str, run_id: UUID, reason: str) -> bytes:
    """The client's id is unknown here: forget what was seen, the run is told again from its beginning."""
    reload = place(company, f"/runs/{run_id}?include_events=200")
    return Frame("reset", json.dumps({"reason": reason, "reload": reload}), id="").encode()
