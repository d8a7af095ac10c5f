"""The relay: publishes committed outbox rows, pipelined, and never forgets one.

The process that committed hands its rows over at once. A sweeper (one per service, under an advisory lock) takes what is
older than two seconds, so that a crash between commit and publish loses nothing. Repeats and inversions are allowed:
`Nats-Msg-Id` and the consumers' inboxes absorb them. A stream that refuses is left alone until the next pass.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from prometheus_client import Counter, Gauge

from chassis.outbox import OutboxRow
from chassis.postgres import CONNECTION_LOST, Pool
from chassis.repair import Repair
from contracts.streams import STREAMS

log = structlog.get_logger(__name__)

PUBLISHED = Counter("outbox_published_total", "Messages acknowledged by the broker", ["stream"])
REFUSED = Counter("outbox_refused_total", "Publishes that the broker refused", ["stream"])
OLDEST = Gauge("outbox_oldest_seconds", "Age of the oldest message that is not on the bus")

IN_FLIGHT_LIMIT = 4096  # publishes without an answer; more wait in the table
ANSWER_TIMEOUT = 5.0  # seconds until a publish without an answer is forgotten, and swept again
SWEEP_AFTER = 2.0
SWEEP_BATCH = 500  # rows in memory at a time, with bodies of up to 64 KiB
PRUNE_BATCH = 2000

SWEEP = """
select id, subject, stream, headers, sequence, body from outbox
where published_at is null and id > $1 and stream = any($2::text[])
  and created_at < clock_timestamp() - make_interval(secs => $3)
order by id limit $4
"""
MARK = """
update outbox set published_at = clock_timestamp(), stream_sequence = done.sequence
from unnest($1::bigint[], $2::bigint[]) as done (id, sequence)
where outbox.id = done.id and outbox.published_at is null
"""
PRUNE = """
delete from outbox where id in (
    select id from outbox
    where published_at < clock_timestamp() - interval '10 minutes' and stream = $1 and stream_sequence <= $2
    order by published_at limit $3)
"""
AGE = """
select extract(epoch from clock_timestamp() - created_at)::float8 from outbox where published_at is null order by id limit 1
"""
LOCK = "select pg_try_advisory_lock(hashtext($1))"


class Relay:
    """One per process. `run` is its life; `hand_over` may be called from any task of the same loop."""

    def __init__(self, service: str, nc: Client, pool: Pool) -> None:
        self._service = service
        self._nc = nc
        self._pool = pool
        self._inbox = f"{nc.new_inbox()}.relay"
        self._in_flight: dict[int, tuple[str, float]] = {}  # row id -> stream, when published (monotonic)
        self._acknowledged: list[tuple[int, int]] = []
        self._refusing: set[str] = set()  # streams that have refused something in this pass
        self._marking = asyncio.Lock()
        self._answered = asyncio.Event()
        self._wake = asyncio.Event()
        self._nudge = asyncio.Event()
        self.rounds = 0
        self.repair = Repair(service, nc, pool)

    async def start(self) -> None:
        await self._nc.subscribe(
            f"{self._inbox}.*", cb=self._on_answer, pending_msgs_limit=10**6, pending_bytes_limit=10**9
        )

    async def hand_over(self, rows: Sequence[OutboxRow]) -> None:
        """Publish rows whose transaction has committed, without waiting for the broker's answers.

        Never fails: the effect stands already, and what could not be published waits for the sweeper.
        """
        now = time.monotonic()
        for row in rows:
            if not self._nc.is_connected or len(self._in_flight) >= IN_FLIGHT_LIMIT:
                return
            if row.id in self._in_flight or not self.repair.trusts(row.stream):
                continue
            self._in_flight[row.id] = (row.stream, now)
            headers = row.headers | {"Nats-Expected-Stream": row.stream}
            try:
                await self._nc.publish(row.subject, row.body, reply=f"{self._inbox}.{row.id}", headers=headers)
            except Exception:
                log.exception("outbox.publish_failed", row=row.id, subject=row.subject)

    async def _on_answer(self, message: Msg) -> None:
        row_id = int(message.subject.rsplit(".", 1)[1])
        stream, _ = self._in_flight.pop(row_id, ("", 0.0))
        self._answered.set()
        answer: dict[str, Any] = json.loads(message.data) if message.data else {}
        if "error" not in answer and answer.get("seq", 0) > 0:  # a refusal carries `seq: 0` beside its error
            self.repair.saw(answer["stream"], answer["seq"], duplicate=bool(answer.get("duplicate")))
            self._acknowledged.append((row_id, answer["seq"]))
            PUBLISHED.labels(answer["stream"]).inc()
            self._wake.set()
            return
        REFUSED.labels(stream).inc()
        if stream not in self._refusing:  # a full stream refuses thousands
            self._refusing.add(stream)
            reason = answer.get("error", {}).get("description") or "no stream takes this subject"
            log.warning("outbox.refused", row=row_id, stream=stream, reason=reason)

    async def _mark(self) -> None:
        async with self._marking:  # whoever returns from here knows that earlier answers are in the table
            done, self._acknowledged = self._acknowledged, []
            if not done:
                return
            try:
                await self._pool.execute(MARK, [i for i, _ in done], [s for _, s in done])
            except CONNECTION_LOST:
                self._acknowledged = done + self._acknowledged
                raise

    async def sweep(self) -> int:
        """One pass over what was left behind, oldest first; returns how many rows that were."""
        after, swept = 0, 0
        min_age = 0.0 if self.repair.repaired else SWEEP_AFTER
        self.repair.repaired = False
        self._refusing.clear()
        async with self._pool.acquire() as connection:  # its way back into the pool gives the lock back
            if not await connection.fetchval(LOCK, f"{self._service}.relay"):
                return 0
            while limit := await self._room():
                records = await connection.fetch(SWEEP, after, self._open_streams(), min_age, limit)
                await self.hand_over([_row(record) for record in records])
                swept += len(records)
                if len(records) < limit:
                    break
                after = records[-1]["id"]
        return swept

    async def _room(self) -> int:
        """How many rows to read next; none when the broker has gone or does not keep up."""
        if len(self._in_flight) >= IN_FLIGHT_LIMIT:
            self._answered.clear()
            await _first(1.0, self._answered)
        room = IN_FLIGHT_LIMIT - len(self._in_flight)
        return min(room, SWEEP_BATCH) if room > 0 and self._nc.is_connected and self._open_streams() else 0

    def _open_streams(self) -> list[str]:
        return [s.name for s in STREAMS if self.repair.trusts(s.name) and s.name not in self._refusing]

    async def _prune(self) -> None:
        for stream, sequence in self.repair.floors():
            await self._pool.execute(PRUNE, stream, sequence, PRUNE_BATCH)

    def _forget_unanswered(self) -> None:
        limit = time.monotonic() - ANSWER_TIMEOUT
        for row_id in [i for i, (_, at) in self._in_flight.items() if at < limit]:
            del self._in_flight[row_id]

    async def _round(self) -> None:
        await self._mark()
        if self._nc.is_connected:
            await self.repair.check()
            self._forget_unanswered()
            await self.sweep()
            await self._prune()
        OLDEST.set(await self._pool.fetchval(AGE) or 0.0)

    async def run(self, stop: asyncio.Event) -> None:
        marking = asyncio.create_task(self._mark_as_they_come(stop), name="relay.mark")
        try:
            while not stop.is_set():
                try:
                    await self._round()
                except CONNECTION_LOST as error:
                    log.warning("relay.database_gone", error=str(error))
                except Exception:  # the relay must outlive any surprise: what it carries is the promise itself
                    log.exception("relay.round_failed")
                self.rounds += 1
                await _first(1.0, stop, self._nudge)
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
            except CONNECTION_LOST:
                self._wake.set()
                await _first(0.5, stop)
            except Exception:  # the rows stay unpublished: the sweeper publishes them again
                log.exception("relay.mark_failed")
            await asyncio.sleep(0.02)  # let answers gather: one update marks many

    def nudge(self) -> None:
        """The connection came back: look at once whether the broker still has what we gave it."""
        self._nudge.set()

    async def flush(self, timeout: float = 2.0) -> None:
        """On drain: wait for the answers under way and mark them."""
        deadline = time.monotonic() + timeout
        while self._in_flight and (left := deadline - time.monotonic()) > 0:
            await _first(min(left, 0.05), self._wake)
        await self._mark()


def _row(record: Any) -> OutboxRow:
    sequence = {"ce-sequence": str(record["sequence"])} if record["sequence"] else {}
    headers = record["headers"] | sequence
    return OutboxRow(record["id"], record["subject"], record["stream"], headers, bytes(record["body"]))


async def _first(seconds: float, *events: asyncio.Event) -> None:
    """Wait until one of the events is set or the time is over."""
    waiting = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
