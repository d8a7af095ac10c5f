"""The projector: one gateway at a time writes every fact of every service into the feeds of the companies, in order.

The leader's advisory lock and its transactions share one connection: who loses the lock can commit nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from uuid import uuid4

import asyncpg
import structlog
from prometheus_client import Counter, Gauge, Histogram

from chassis import telemetry
from chassis.arrivals import ACK, Arrival, nak, settle
from chassis.blobs import Blobs
from chassis.bus import Bus
from chassis.context import Context
from chassis.dead_letters import DeadLetters
from chassis.pausing import happens_within
from chassis.postgres import CONNECTION_LOST, Connection, Pool
from chassis.unit_of_work import AlreadyHandled
from contracts.catalog import OWNER_REQUESTS
from contracts.envelope import Envelope
from contracts.errors import Rejection, RetryLater
from contracts.refs import BlobRef
from contracts.story import Resent
from contracts.streams import TIMELINE
from services.gateway.domain.facts import Fact, Sorted, skipped_over, sort_out, tombstone
from services.gateway.intake import Intake
from services.gateway.telling.reading import Stamp, place_of, read_fact
from services.gateway.telling.store import Gap, Timeline

log = structlog.get_logger(__name__)

TOLD = Counter("timeline_told_total", "Facts appended to the timeline")
PARKED = Counter("timeline_parked_total", "Facts that came before their predecessor")
SKIPPED = Counter("timeline_skipped_total", "Facts that their owner no longer holds")
SECONDS = Histogram("timeline_batch_seconds", "Time to commit one batch")
LEADING = Gauge("timeline_leading", "1 in the gateway that projects")

DOORBELL = "timeline"
ELECTION = 1.0  # seconds between attempts to become the leader
LOOK_FOR_GAPS = 1.0

FETCHING = 3.0  # seconds for what of a batch lies in the object store; the rest of that comes again later
STORE_HANGS = 10.0  # seconds until then
PATIENCE = 20.0  # seconds for one batch; then the connection is given up, and with it the lock
#: what Postgres, or asyncpg on its way there, refuses because of the data
REFUSED_DATA = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.ProgramLimitExceededError)

Connect = Callable[[], Awaitable[Connection]]


@dataclass(slots=True)
class Projector:
    connect: Connect  # a connection of its own, which holds the lock
    pool: Pool
    bus: Bus
    blobs: Blobs
    dead_letters: DeadLetters
    batch: int = 500
    gap_patience: float = 30.0

    async def run(self, stop: asyncio.Event) -> None:
        """Stand by, lead when nobody does, stand by again when the database went away."""
        while not stop.is_set():
            try:
                async with self._leadership() as connection:
                    if connection is not None:
                        await self._lead(connection, stop)
            except CONNECTION_LOST as error:
                log.warning("timeline.database_gone", error=str(error))
            await happens_within(ELECTION, stop)

    @asynccontextmanager
    async def _leadership(self) -> AsyncIterator[Connection | None]:
        connection = await self.connect()
        try:
            leading = await Timeline(connection).lead()
            LEADING.set(leading)
            yield connection if leading else None
        finally:
            LEADING.set(0)
            connection.terminate()

    async def _lead(self, connection: Connection, stop: asyncio.Event) -> None:
        log.info("timeline.leading")
        chasing = asyncio.create_task(self._chase_gaps(stop), name="timeline.gaps")
        try:
            async with Intake(self.bus.nc, TIMELINE, stop, batch=self.batch) as intake:
                while not stop.is_set():
                    if messages := await intake.take(0.5):
                        await self._project(connection, messages)
                    else:
                        await connection.fetchval("select 1")  # an idle leader notices that it lost its lock
        finally:
            chasing.cancel()
            await asyncio.gather(chasing, return_exceptions=True)

    # from messages to facts -------------------------------------------------------------------------------------------

    async def _project(self, connection: Connection, messages: Sequence[Arrival]) -> None:
        try:
            with SECONDS.time():
                async with asyncio.timeout(PATIENCE):
                    until = asyncio.get_running_loop().time() + FETCHING
                    read = [(m, self._read_at_once(m) or await self._read(m, until)) for m in messages]
                    await self._tell(connection, [(m, fact) for m, fact in read if isinstance(fact, Fact)])
        except CONNECTION_LOST:
            await self._settle([(message, RetryLater(ELECTION)) for message in messages])
            raise
        await self._settle(read)

    def _read_at_once(self, message: Arrival) -> Fact | None:
        """None when it takes more than a look."""
        if (stamp := Stamp.at_once(message.head)) is None:
            return None
        try:
            return read_fact(message.subject, stamp, message.body)
        except Rejection:
            return None

    async def _read(self, message: Arrival, until: float) -> Fact | RetryLater | None:
        """What is no fact is a dead letter by now; None when it has no place in a story either."""
        try:
            return await self._fact(message.subject, message.headers(), message.body, until)
        except RetryLater as later:
            return later
        except Rejection as rejection:
            await self._bury(message, str(rejection))
            return place_of(message.subject, message.headers(), str(rejection), uuid4())

    async def _fact(self, subject: str, headers: Mapping[str, str], data: bytes, until: float | None = None) -> Fact:
        envelope = Envelope.from_headers(headers)
        body = data if envelope.claim is None else await self._fetch(envelope.claim, until)
        return read_fact(subject, Stamp.of(envelope), body)

    async def _fetch(self, claim: BlobRef, until: float | None) -> bytes:
        """A store that hangs must not hold up the rest of the batch."""
        try:
            async with asyncio.timeout_at(until):
                return await self.blobs.get(claim)
        except TimeoutError:
            raise RetryLater(STORE_HANGS, "the object store did not answer in time") from None

    async def _bury(self, message: Arrival, reason: str) -> None:
        log.error("timeline.dead", subject=message.subject, reason=reason)
        headers = message.headers()
        await self.dead_letters.bury(
            TIMELINE.durable, message.subject, headers, message.body, reason, 1, reply=message.reply
        )

    async def replay(self, subject: str, headers: Mapping[str, str], data: bytes) -> None:
        """A dead letter once more. Raises Rejection when it still is no fact."""
        fact = await self._fact(subject, headers, data)
        async with self.pool.acquire() as connection:
            result = await tell(connection, [fact])
            if not result.told and not result.parked and not await Timeline(connection).fill(fact):
                raise AlreadyHandled
        await self.bus.ring(DOORBELL)

    async def _tell(self, connection: Connection, read: Sequence[tuple[Arrival, Fact]]) -> None:
        """One transaction for all; one by one when the data of one of them is refused."""
        if not read:
            return
        try:
            result = await tell(connection, [fact for _, fact in read])
        except REFUSED_DATA as error:
            if len(read) > 1:
                for one in read:
                    await self._tell(connection, [one])
                return
            message, fact = read[0]
            await self._bury(message, repr(error))
            result = await tell(connection, [tombstone(fact, repr(error), uuid4())])
        TOLD.inc(len(result.told))
        PARKED.inc(len(result.parked))
        if result.told:
            await self.bus.ring(DOORBELL)

    async def _settle(self, read: Sequence[tuple[Arrival, Fact | RetryLater | None]]) -> None:
        """Ack what is committed, nak what must come again; without a connection, all comes again by itself."""
        if self.bus.connected:
            answers = ((m, nak(fact.delay) if isinstance(fact, RetryLater) else ACK) for m, fact in read)
            await settle(self.bus.nc, answers)

    # gaps -------------------------------------------------------------------------------------------------------------

    async def _chase_gaps(self, stop: asyncio.Event) -> None:
        """A gap that cannot be closed leaves the others to be closed; a round that fails is followed by the next."""
        while not stop.is_set():
            with _outlived():
                async with self.pool.acquire() as connection:
                    gaps = await Timeline(connection).gaps(self.gap_patience)
                for gap in gaps:
                    with _outlived(owner=gap.owner, story=gap.story):
                        await self._chase(gap)
            await happens_within(LOOK_FOR_GAPS, stop)

    async def _chase(self, gap: Gap) -> None:
        if gap.owner not in OWNER_REQUESTS:
            log.error("timeline.gap_without_owner", owner=gap.owner, story=gap.story)
            return
        request = OWNER_REQUESTS[gap.owner]["resend"].model_validate(gap.missing)
        try:
            answer: Resent = await self.bus.ask(request, Context())
        except (Rejection, RetryLater) as refusal:
            log.warning("timeline.gap_stays", owner=gap.owner, story=gap.story, first=gap.first, reason=str(refusal))
            return
        log.info("timeline.gap", owner=gap.owner, story=gap.story, resent=len(answer.sent), gone=len(answer.gone))
        if answer.gone:
            await self._skip(gap, answer.gone)

    async def _skip(self, gap: Gap, gone: Sequence[int]) -> None:
        """Nobody can tell these facts any more: what waits behind them goes on."""
        async with self.pool.acquire() as connection, connection.transaction():
            timeline, story = Timeline(connection), (gap.owner, gap.story)
            told = (await timeline.lock([story]))[story]
            last = skipped_over(told, gone)
            result = sort_out(await timeline.parked_of([story]), {story: last})
            await timeline.tell(result.told)
            await timeline.move({story: last} | result.last)
            await timeline.unpark({story: last} | result.last)
        if last > told:
            SKIPPED.inc(last - told)
            log.warning("timeline.skipped", owner=gap.owner, story=gap.story, first=told + 1, last=last)
            await self.bus.ring(DOORBELL)


async def tell(connection: Connection, facts: Sequence[Fact]) -> Sorted:
    """Append what may be told now, park what came too early, drop what was told before; one transaction."""
    stories = sorted({fact.of for fact in facts})
    async with connection.transaction():
        timeline = Timeline(connection)
        last = await timeline.lock(stories)
        parked = await timeline.parked_of(stories)
        result = sort_out([*parked, *facts], last)
        await timeline.tell(result.told)
        await timeline.move(result.last)
        if parked:
            await timeline.unpark(result.last)
        await timeline.park(result.parked)
    return result


@contextmanager
def _outlived(**gap: str) -> Iterator[None]:
    try:
        yield
    except CONNECTION_LOST as error:
        log.info("timeline.database_gone", error=str(error))
    except Exception as error:
        log.exception("timeline.chase_failed", **gap)
        telemetry.report(error, loop="timeline.gaps")
