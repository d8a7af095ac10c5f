"""The outbox: messages written in the transaction of the effect they tell of, numbered per story, grouped in batches."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import NamedTuple
from uuid import UUID

from asyncpg.pgproto import pgproto
from pydantic_core import to_json

from chassis import wire
from chassis.context import Context, current_traceparent
from chassis.postgres import Connection
from contracts.envelope import CLAIM_CHECK_BYTES, HEADERS
from contracts.errors import FluidcrewError
from contracts.message import Event, Message
from contracts.refs import BlobRef
from contracts.streams import stream_of

BATCH = 500  # messages at most: what is read, and has no answer, at a time


class OversizedMessage(FluidcrewError):
    """A message is too large to travel; stage it with UnitOfWork.stage before the transaction."""


@dataclass(frozen=True, slots=True)
class Staged:
    """A message whose large body already lies in the object store."""

    message: Message
    claim: BlobRef


class Entry(NamedTuple):
    """A message on its way into the outbox."""

    stream: str
    subject: str
    story: str
    counted: bool  # facts are numbered within their story
    head: bytes
    body: bytes
    message_id: UUID


class OutboxRow(NamedTuple):
    """A committed message. `sent_as` is the Nats-Msg-Id when it is told again."""

    message_id: UUID
    sent_as: UUID | None
    subject: str
    story: str
    sequence: int
    head: bytes
    body: bytes


class Batch(NamedTuple):
    """Committed messages to one stream, ready for the relay."""

    id: int
    stream: str
    rows: Sequence[OutboxRow]


def writing(first: int = 1, only_if: str = "true") -> str:
    """The messages of a transaction as common table expressions, whose parameters begin with that number."""
    p = [f"${n}" for n in range(first, first + 12)]
    return f"""numbered as (
    insert into stories as s (story, sequence)
    select x.* from unnest({p[0]}::text[], {p[1]}::bigint[]) as x where {only_if}
    on conflict (story) do update set sequence = s.sequence + excluded.sequence
    returning s.story, s.sequence
), last as materialized (
    select array_agg(sequence order by story collate "C") as told from numbered
), made as (
    insert into outbox_batches (stream, size)
    select x.* from unnest({p[2]}::text[], {p[3]}::int[]) as x where {only_if} returning id
), batches as materialized (
    select array_agg(id order by id) as ids from made
), written as (
    insert into outbox (batch, message_id, subject, story, sequence, head, body)
    select (select ids from batches)[i.batch], i.message_id, i.subject, i.story,
           case when i.place > 0 then (select told from last)[i.place] - i.before else 0 end, i.head, i.body
    from unnest({p[4]}::int[], {p[5]}::uuid[], {p[6]}::text[], {p[7]}::text[], {p[8]}::int[], {p[9]}::int[],
        {p[10]}::bytea[], {p[11]}::bytea[]) as i (batch, message_id, subject, story, place, before, head, body)
    where {only_if}
)"""


WRITE = f"with {writing()} select batches.ids, last.told from batches, last"
#: Moves the messages of the outbox `o` that a condition names out of their batches `b` into new ones, unpublished.
REGROUP = f"""
with chosen as materialized (
    select o.batch, o.id, b.stream, b.created_at,
           (row_number() over (partition by b.stream order by o.batch, o.id) - 1) / {BATCH} as part
    from outbox o join outbox_batches b on b.id = o.batch where %s
), parts as materialized (
    select nextval(pg_get_serial_sequence('outbox_batches', 'id')) as id, p.*
    from (select stream, part, count(*) as size, min(created_at) as created_at from chosen
          group by stream, part order by stream, part) p
), made as (
    insert into outbox_batches (id, stream, size, created_at) select id, stream, size, created_at from parts
)
update outbox o set batch = parts.id %s
from chosen join parts using (stream, part) where o.batch = chosen.batch and o.id = chosen.id
returning o.sequence
"""
#: Under a new Nats-Msg-Id (its ce-id stays): within its duplicate window the broker would swallow the old one.
TELL_AGAIN = REGROUP % ("o.story = $1 and o.sequence between $2 and $3", ", sent_as = gen_random_uuid()")


class Heads:
    """Header lines that the messages of one transaction share, encoded once."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._now = datetime.now(UTC).isoformat()
        self._trace = current_traceparent()
        self._of_types: dict[type[Message], bytes] = {}
        self._of_contexts: dict[int, bytes] = {}  # by identity: whoever calls holds them meanwhile

    def of(self, kind: type[Message], context: Context) -> bytes:
        of_type = self._of_types.get(kind)
        if of_type is None:
            of_type = self._of_types[kind] = _lines(type=kind.type_name(), source=self._source, time=self._now)
        of_context = self._of_contexts.get(id(context))
        if of_context is None:
            of_context = self._of_contexts[id(context)] = _lines(
                correlation_id=context.correlation_id,
                causation_id=context.causation_id,
                request_id=context.request_id,
                traceparent=self._trace or context.traceparent,
            )
        return of_type + of_context


def _lines(**values: str) -> bytes:
    return wire.lines((HEADERS[name], value) for name, value in values.items() if value)


def entries_of(source: str, messages: Sequence[tuple[Message | Staged, Context]]) -> list[Entry]:
    heads, ids = Heads(source), _fresh_ids(len(messages))
    return [_entry(item, heads, context, id) for (item, context), id in zip(messages, ids, strict=True)]


def _entry(item: Message | Staged, heads: Heads, context: Context, id: UUID) -> Entry:
    message, claim = (item.message, item.claim) if isinstance(item, Staged) else (item, None)
    head = heads.of(type(message), context)
    if claim is not None:
        head += wire.lines([("x-claim", claim.model_dump_json())])
    body = b"{}" if claim else to_json(message)
    if len(body) > CLAIM_CHECK_BYTES:
        raise OversizedMessage(f"{message.type_name()} has {len(body)} bytes, over {CLAIM_CHECK_BYTES}; stage it first")
    counted = isinstance(message, Event)
    return Entry(stream_of(message.kind), message.subject, message.story_id, counted, head, body, id)


def _fresh_ids(count: int) -> Iterator[UUID]:
    """Random UUIDs (version 4): one read of the kernel's randomness and asyncpg's class take a tenth of `uuid4`'s time."""
    noise = bytearray(os.urandom(16 * count))
    noise[6::16] = bytes(b & 0x0F | 0x40 for b in noise[6::16])
    noise[8::16] = bytes(b & 0x3F | 0x80 for b in noise[8::16])
    return (pgproto.UUID(bytes(noise[at : at + 16])) for at in range(0, len(noise), 16))


class Outgoing:
    """Messages laid out for `writing`, and what becomes of them once the database has numbered them."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._parts = _parts(entries)
        counts = Counter(e.story for e in entries if e.counted)
        stories = sorted(counts)  # everybody locks them in the same order
        self._rows = list(_placed(self._parts, {story: n for n, story in enumerate(stories, start=1)}, counts))
        streams, sizes = [part[0].stream for part in self._parts], [len(part) for part in self._parts]
        columns = zip(*self._rows, strict=True) if self._rows else ((),) * 8
        self.values = (stories, [counts[story] for story in stories], streams, sizes, *columns)

    def batches(self, ids: Sequence[int] | None, told: Sequence[int] | None) -> list[Batch]:
        """`ids` of the batches, and how far each of the stories has been told now."""
        rows = (
            OutboxRow(message_id, None, subject, story, told[at - 1] - before if told and at else 0, head, body)
            for _, message_id, subject, story, at, before, head, body in self._rows
        )
        parts = zip(ids or (), self._parts, strict=True)
        return [Batch(id, part[0].stream, list(islice(rows, len(part)))) for id, part in parts]


def _placed(
    parts: Sequence[Sequence[Entry]], places: Mapping[str, int], counts: Mapping[str, int]
) -> Iterator[tuple[int, UUID, str, str, int, int, bytes, bytes]]:
    """Rows as `writing` takes them: with the place of a fact's story, and how many of the story's facts follow."""
    left = dict(counts)
    for number, part in enumerate(parts, start=1):
        for _, subject, story, counted, head, body, message_id in part:
            if counted:
                left[story] -= 1
            at = (places[story], left[story]) if counted else (0, 0)
            yield (number, message_id, subject, story, *at, head, body)


async def write(connection: Connection, entries: Sequence[Entry]) -> list[Batch]:
    """Insert the entries in their order. Must run in the transaction of the effect."""
    if not entries:
        return []
    outgoing = Outgoing(entries)
    row = await connection.fetchrow(WRITE, *outgoing.values)
    assert row is not None, "a select of aggregates has a row"
    return outgoing.batches(row["ids"], row["told"])


def _parts(entries: Sequence[Entry]) -> list[list[Entry]]:
    by_stream: dict[str, list[Entry]] = {}
    for entry in entries:
        by_stream.setdefault(entry.stream, []).append(entry)
    return [all[n : n + BATCH] for all in by_stream.values() for n in range(0, len(all), BATCH)]


async def write_outbox(
    connection: Connection, source: str, messages: Sequence[tuple[Message | Staged, Context]]
) -> list[Batch]:
    """The messages of one transaction, each with the context it is told in."""
    return await write(connection, entries_of(source, messages))
