"""The relay: publishes committed batches of the outbox, pipelined, and never forgets one.

The process that committed hands its batches over at once. A sweeper (one per service, under an advisory lock) takes what is
older than two seconds, so that a crash between commit and publish loses nothing. Repeats and inversions are allowed:
`Nats-Msg-Id` and the consumers' inboxes absorb them. A stream that refuses is left alone until the next pass.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from itertools import count

import structlog
from nats.aio.client import Client
from prometheus_client import Counter, Gauge

from chassis import left_behind, outbox, wire
from chassis.arrivals import Arrival, Listening
from chassis.flight import Flight
from chassis.outage import Outage
from chassis.outbox import Batch
from chassis.pausing import until_any
from chassis.postgres import CONNECTION_LOST, Connection, Pool
from chassis.repair import Repair
from contracts.streams import STREAMS

log = structlog.get_logger(__name__)

PUBLISHED = Counter("outbox_published_total", "Messages acknowledged by the broker", ["stream"])
REFUSED = Counter("outbox_refused_total", "Publishes that the broker refused", ["stream"])
OLDEST = Gauge("outbox_oldest_seconds", "Age of the oldest message that is not on the bus")

IN_FLIGHT_LIMIT = 4096  # publishes without an answer; more wait in the table
ANSWER_TIMEOUT = 5.0  # seconds until a batch without all its answers is forgotten, and swept again
SWEEP_AFTER = 2.0

#: Nobody waits for the disk: a crash of the database forgets some marks, and those batches are published once more.
MARK = """
with hurry as materialized (select set_config('synchronous_commit', 'off', true))
update outbox_batches b set published_at = clock_timestamp(), first_sequence = done.first, last_sequence = done.last
from hurry, unnest($1::bigint[], $2::bigint[], $3::bigint[]) as done (id, first, last)
where b.id = done.id and b.published_at is null
"""
SET_APART = outbox.REGROUP % ("o.batch = $1 and o.message_id = any($2::uuid[])", "")
LOCK = "select pg_try_advisory_lock(hashtext($1))"


class Relay:
    """One per process. `run` is its life; `hand_over` may be called from any task of the same loop."""

    def __init__(self, service: str, nc: Client, pool: Pool) -> None:
        self._service = service
        self._nc = nc
        self._pool = pool
        self._inbox = f"{nc.new_inbox()}.relay"
        self._numbers = count(1)
        self._flights: dict[int, Flight] = {}
        self._under_way: set[int] = set()  # batches
        self._in_flight = 0  # publishes without an answer
        self._landed: list[Flight] = []
        self._refusing: set[str] = set()  # streams that have refused something in this pass
        self._marking = asyncio.Lock()
        self._answered = asyncio.Event()
        self._wake = asyncio.Event()
        self._nudge = asyncio.Event()
        self._database = Outage("relay.database")
        self.rounds = 0
        self.repair = Repair(service, nc, pool)

    async def start(self) -> None:
        await Listening(self._nc, f"{self._inbox}.>", self._on_answer).start()

    async def hand_over(self, batches: Sequence[Batch]) -> None:
        """Publish batches whose transaction has committed, without waiting for the broker's answers.

        Never fails: the effect stands already, and what could not be published waits for the sweeper.
        """
        for batch in batches:
            if not self._nc.is_connected or self._in_flight + len(batch.rows) > IN_FLIGHT_LIMIT:
                return
            if batch.id in self._under_way or not self.repair.trusts(batch.stream):
                continue
            try:
                await wire.send(self._nc, self._taking_off(batch))
            except Exception:
                log.exception("outbox.publish_failed", batch=batch.id, stream=batch.stream)

    def _taking_off(self, batch: Batch) -> bytes:
        flight = Flight(batch, self.repair.comparisons(batch.stream))
        commands, number = [], next(self._numbers)
        for n, row in enumerate(batch.rows):
            block = wire.header_block(batch.stream, row.message_id, row.sent_as, row.story, row.sequence, row.head)
            try:
                commands.append(wire.publish(row.subject, f"{self._inbox}.{number}.{n}", block, row.body))
            except wire.Unsendable as error:
                log.error("outbox.unsendable", message_id=str(row.message_id), reason=str(error))
                flight.refuse(n)
        self._flights[number] = flight
        self._under_way.add(batch.id)
        self._in_flight += flight.left
        if not flight.left:
            self._land(number, flight)
        return b"".join(commands)

    def _on_answer(self, message: Arrival) -> None:
        _, number, n = message.subject.rsplit(".", 2)
        if (flight := self._flights.get(int(number))) is None:
            return  # it took so long that the batch was given up, and is published anew
        self._in_flight -= 1
        answer, stream = wire.read_answer(message.body), flight.batch.stream
        if answer.sequence:
            self.repair.saw(stream, answer.sequence, duplicate=answer.duplicate)
            flight.accept(answer.sequence)
        else:
            flight.refuse(int(n))
            self._note_refusal(stream, answer.refusal)
        if not flight.left:
            self._land(int(number), flight)

    def _land(self, number: int, flight: Flight) -> None:
        del self._flights[number]
        self._under_way.discard(flight.batch.id)
        self._answered.set()
        if flight.accepted or not flight.batch.rows:
            PUBLISHED.labels(flight.batch.stream).inc(flight.accepted)
            self._landed.append(flight)
            self._wake.set()

    def _note_refusal(self, stream: str, reason: str) -> None:
        REFUSED.labels(stream).inc()
        if stream not in self._refusing:  # a full stream refuses thousands
            self._refusing.add(stream)
            log.warning("outbox.refused", stream=stream, reason=reason)

    async def _mark(self) -> None:
        async with self._marking:  # whoever returns from here knows that earlier answers are in the table
            landed, self._landed = self._landed, []
            # what an earlier comparison of the stream did not see is published again
            done = [f for f in landed if f.compared == self.repair.comparisons(f.batch.stream)]
            if not done:
                return
            try:
                async with self._pool.acquire() as connection, connection.transaction():
                    await self._mark_all(connection, done)
            except CONNECTION_LOST:
                self._landed = done + self._landed
                raise

    async def _mark_all(self, connection: Connection, done: Sequence[Flight]) -> None:
        for flight in done:
            if flight.refused:
                await connection.execute(SET_APART, flight.batch.id, [row.message_id for row in flight.refused])
        columns = [f.batch.id for f in done], [f.first for f in done], [f.last for f in done]
        await connection.execute(MARK, *columns)

    async def sweep(self) -> int:
        """One pass over what was left behind, oldest first; returns how many messages that were."""
        after, swept = 0, 0
        min_age = 0.0 if self.repair.repaired else SWEEP_AFTER
        self.repair.repaired = False
        self._refusing.clear()
        async with self._pool.acquire() as connection:  # its way back into the pool gives the lock back
            if not await connection.fetchval(LOCK, f"{self._service}.relay"):
                return 0
            while await self._has_room():
                batches = await left_behind.page(connection, after, self._under_way, self._open_streams(), min_age)
                if not batches:
                    break
                await self.hand_over(batches)
                swept += sum(len(batch.rows) for batch in batches)
                after = batches[-1].id
        return swept

    async def _has_room(self) -> bool:
        """Whether to read another page; not when the broker has gone or does not keep up."""
        if self._in_flight + left_behind.PAGE > IN_FLIGHT_LIMIT:
            self._answered.clear()
            await until_any(1.0, self._answered)
        room = self._in_flight + left_behind.PAGE <= IN_FLIGHT_LIMIT
        return room and self._nc.is_connected and bool(self._open_streams())

    def _open_streams(self) -> list[str]:
        return [s.name for s in STREAMS if self.repair.trusts(s.name) and s.name not in self._refusing]

    def _forget_unanswered(self) -> None:
        limit = time.monotonic() - ANSWER_TIMEOUT
        for number, flight in list(self._flights.items()):
            if flight.began < limit:
                del self._flights[number]
                self._under_way.discard(flight.batch.id)
                self._in_flight -= flight.left

    async def _round(self) -> None:
        await self._mark()
        if self._nc.is_connected:
            await self.repair.check()
            self._forget_unanswered()
            await self.sweep()
            await left_behind.prune(self._pool, self.repair.floors())
        OLDEST.set(await left_behind.age(self._pool))

    async def run(self, stop: asyncio.Event) -> None:
        marking = asyncio.create_task(self._mark_as_they_come(stop), name="relay.mark")
        try:
            while not stop.is_set():
                pause = 1.0
                try:
                    await self._round()
                    self._database.over()
                except CONNECTION_LOST as error:
                    self._database.noticed(error)
                    pause = self._database.pause()
                except Exception:  # the relay must outlive any surprise: what it carries is the promise itself
                    log.exception("relay.round_failed")
                self.rounds += 1
                await until_any(pause, stop, self._nudge)
                self._nudge.clear()
        finally:
            marking.cancel()
            await asyncio.gather(marking, return_exceptions=True)

    async def _mark_as_they_come(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._mark()
            except CONNECTION_LOST as error:
                self._database.noticed(error)
                self._wake.set()
                await until_any(self._database.pause(), stop)
            except Exception:  # the batches stay unpublished: the sweeper publishes them again
                log.exception("relay.mark_failed")
            await asyncio.sleep(0.02)  # let answers gather: one update marks many

    def nudge(self) -> None:
        """The connection came back: look at once whether the broker still has what we gave it."""
        self._nudge.set()

    async def flush(self, timeout: float = 2.0) -> None:
        """On drain: wait for the answers under way and mark them."""
        deadline = time.monotonic() + timeout
        while self._flights and (left := deadline - time.monotonic()) > 0:
            await until_any(min(left, 0.05), self._wake)
        await self._mark()
