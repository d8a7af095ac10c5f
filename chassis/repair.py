"""Repair of the bus from the outbox: after a broker lost messages, finds which of ours are missing and frees them.

It runs when the server behind the connection or a stream's creation time changed, when a sequence comes back at or
below one we hold, and every ten minutes. It compares message ids as sets: sequences are reused after a rollback, and
new rows published between the loss and the check make any search for "the break" wrong (it left
1,298 of 5,140 messages unapplied where the difference of the sets lost none).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeout
from nats.js import JetStreamContext, api
from nats.js.errors import APIError, NotFoundError
from prometheus_client import Counter
from pydantic import TypeAdapter

from chassis import outbox
from chassis.outage import Outage
from chassis.postgres import Pool, affected
from contracts.story import Floor
from contracts.streams import STREAMS

log = structlog.get_logger(__name__)

REPAIRED = Counter("outbox_repaired_total", "Messages published again after the broker lost them", ["stream"])

AUDIT_EVERY = 600.0
FLOORS = TypeAdapter(list[Floor])

OLDEST_PUBLISHED = """
select min(first_sequence) from outbox_batches
where stream = $1 and published_at is not null and ($2::bigint is null or last_sequence >= $2)
"""
#: Messages go out in the order of their ids. In a batch of which the stream has passed a part, those before the first that
#: is still there are passed; when none is there, all are taken for lost.
FREE_MISSING = outbox.REGROUP % (
    """b.stream = $1 and b.published_at < $4 and ($2::bigint is null or b.last_sequence >= $2)
    and not exists (select 1 from unnest($3::uuid[]) as seen (id) where seen.id = o.message_id)
    and ($2::bigint is null or b.first_sequence >= $2 or o.id > coalesce((
        select min(held.id) from outbox held where held.batch = b.id and held.message_id = any($3::uuid[])), 0))""",
    "",
)
REMEMBER = """
insert into verified_streams (stream, created, server_id) values ($1, $2, $3)
on conflict (stream) do update
    set created = excluded.created, server_id = excluded.server_id, verified_at = clock_timestamp()
"""


class Repair:
    """Knows whether the broker is the one the outbox was last compared with."""

    def __init__(self, service: str, nc: Client, pool: Pool) -> None:
        self._service = service
        self._nc = nc
        self._js: JetStreamContext = nc.jetstream(timeout=5)
        self._pool = pool
        self._verified: dict[str, tuple[str, datetime, float]] = {}  # stream -> server, created, when (monotonic)
        self._highest: dict[str, int] = {}
        self._suspicious = False
        self._heard: dict[str, Floor] = {}
        self._comparisons: dict[str, int] = {}
        self._streams = {spec.name: Outage("repair.stream", stream=spec.name) for spec in STREAMS}
        self.repaired = False

    @property
    def server_id(self) -> str:
        return str(self._nc._server_info.get("server_id", ""))  # nats-py shows it nowhere else

    def trusts(self, stream: str) -> bool:
        """Until a stream was compared with this server's, nothing is published to it."""
        verified = self._verified.get(stream)
        return verified is not None and verified[0] == self.server_id

    def comparisons(self, stream: str) -> int:
        """How often the stream was compared, or is. An answer from before says nothing about the stream of now."""
        return self._comparisons.get(stream, 0)

    def saw(self, stream: str, sequence: int, *, duplicate: bool) -> None:
        """A publish was acknowledged at this place; going backwards means that the stream lost its tail."""
        if not duplicate and sequence <= self._highest.get(stream, 0):
            self._suspicious = True
        self._highest[stream] = max(sequence, self._highest.get(stream, 0))

    def hear_floor(self, body: bytes) -> None:
        self._heard = {floor.stream: floor for floor in FLOORS.validate_json(body)}

    def floors(self) -> Iterator[tuple[str, int]]:
        """Streams with the sequence that every durable consumer has passed, for the stream we verified."""
        for stream, floor in self._heard.items():
            verified = self._verified.get(stream)
            if verified and verified[1] == floor.created:
                yield stream, floor.sequence

    async def check(self) -> None:
        """Compare what must be compared. Leaves a stream unverified when that was not possible."""
        suspicious, self._suspicious = self._suspicious, False
        for spec in STREAMS:
            server, _, at = self._verified.get(spec.name, ("", None, 0.0))
            try:
                info = await self._js.stream_info(spec.name)
                created = _utc(info.created)
                known = self._verified.get(spec.name)
                due = time.monotonic() - at > AUDIT_EVERY or suspicious
                if known is None or server != self.server_id or created != known[1] or due:
                    await self._compare(spec.name, created, info.state)
                self._streams[spec.name].over()
            except (TimeoutError, NatsError, NatsTimeout, APIError) as error:
                self._verified.pop(spec.name, None)
                self._streams[spec.name].noticed(error)
                if not self._nc.is_connected:
                    return  # the other streams would only time out one after the other

    async def _compare(self, stream: str, created: datetime, state: api.StreamState) -> None:
        server, began = self.server_id, time.monotonic()
        self._comparisons[stream] = self.comparisons(stream) + 1
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute("select pg_advisory_xact_lock(hashtext($1))", f"{self._service}.repair")
            cutoff = await connection.fetchval("select clock_timestamp()")
            known = await connection.fetchval("select created from verified_streams where stream = $1", stream)
            first = state.first_seq if known == created else None  # what the same stream had before is passed
            oldest = await connection.fetchval(OLDEST_PUBLISHED, stream, first)
            freed = 0
            if oldest is not None:
                seen = await self._message_ids(stream, state, oldest if known == created else 1)
                freed = affected(await connection.execute(FREE_MISSING, stream, first, list(seen), cutoff))
            await connection.execute(REMEMBER, stream, created, server)
        if server == self.server_id:
            self.repaired = self.repaired or not self.trusts(stream)  # what waited for this goes out at once
            self._heard.pop(stream, None)  # before a rollback the floor may have been higher
            self._verified[stream] = (server, created, began)
            self._highest[stream] = state.last_seq
        if freed:
            self.repaired = True
            REPAIRED.labels(stream).inc(freed)
            log.warning("repair.freed", stream=stream, messages=freed)

    async def _message_ids(self, stream: str, state: api.StreamState, since: int) -> set[UUID]:
        """The ids that the stream holds from a sequence on, read headers-only through a short-lived consumer."""
        if not state.messages:
            return set()
        name = f"relay-{self._service}"
        await self._drop(stream, name)
        config = api.ConsumerConfig(
            name=name,
            deliver_policy=api.DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=since,
            ack_policy=api.AckPolicy.NONE,
            headers_only=True,
            mem_storage=True,
            inactive_threshold=30,
        )
        info = await self._js.add_consumer(stream, config)
        left = info.num_pending or 0
        ids: set[UUID] = set()
        pull = await self._js.pull_subscribe_bind(consumer=name, stream=stream)
        try:
            while left > 0:
                for message in await pull.fetch(min(left, 1000), timeout=5):
                    left -= 1
                    if (id := (message.headers or {}).get("ce-id")) and (parsed := _uuid(id)):
                        ids.add(parsed)
        finally:
            await pull.unsubscribe()
            await self._drop(stream, name)
        return ids

    async def _drop(self, stream: str, name: str) -> None:
        try:
            await self._js.delete_consumer(stream, name)
        except NotFoundError:
            return


def _utc(value: Any) -> datetime:
    parsed = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
