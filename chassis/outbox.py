"""The outbox: messages written in the transaction of the effect they tell of, numbered per story."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from chassis.context import Context, current_traceparent
from chassis.postgres import Connection
from contracts.envelope import CLAIM_CHECK_BYTES, Envelope
from contracts.errors import FluidcrewError
from contracts.message import Event, Message
from contracts.refs import BlobRef
from contracts.streams import stream_of


class OversizedMessage(FluidcrewError):
    """A message is too large to travel; stage it with UnitOfWork.stage before the transaction."""


@dataclass(frozen=True, slots=True)
class Staged:
    """A message whose large body already lies in the object store."""

    message: Message
    claim: BlobRef


@dataclass(frozen=True, slots=True)
class Entry:
    """A message on its way into the outbox."""

    stream: str
    subject: str
    story: str
    counted: bool  # facts are numbered within their story
    headers: dict[str, str]
    body: bytes
    message_id: UUID


@dataclass(slots=True)
class OutboxRow:
    """A committed message, ready for the relay."""

    id: int
    subject: str
    stream: str
    headers: dict[str, str]
    body: bytes


def entry_of(item: Message | Staged, source: str, context: Context) -> Entry:
    message = item.message if isinstance(item, Staged) else item
    claim = item.claim if isinstance(item, Staged) else None
    body = b"{}" if claim else message.model_dump_json().encode()
    if len(body) > CLAIM_CHECK_BYTES:
        raise OversizedMessage(f"{message.type_name()} has {len(body)} bytes, over {CLAIM_CHECK_BYTES}; stage it first")
    envelope = Envelope.of(
        message,
        id=uuid4(),
        source=source,
        claim=claim,
        correlation_id=context.correlation_id,
        causation_id=context.causation_id,
        request_id=context.request_id,
        traceparent=current_traceparent() or context.traceparent,
    )
    return Entry(
        stream=stream_of(message.kind),
        subject=message.subject,
        story=message.story_id,
        counted=isinstance(message, Event),
        headers=envelope.headers(),
        body=body,
        message_id=envelope.id,
    )


WRITE = """
with input as materialized (
    select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bool[], $6::jsonb[], $7::bytea[])
        with ordinality as i (message_id, stream, subject, story, counted, headers, body, n)
), counts as (
    select story, count(*) as facts from input where counted group by story order by story
), numbered as (
    insert into stories as s (story, sequence) select story, facts from counts
    on conflict (story) do update set sequence = s.sequence + excluded.sequence
    returning s.story, s.sequence
)
insert into outbox (message_id, stream, subject, story, sequence, headers, body)
select i.message_id, i.stream, i.subject, i.story,
       case when i.counted
            then numbered.sequence - counts.facts + row_number() over (partition by i.story, i.counted order by i.n)
            else 0 end,
       i.headers, i.body
from input i left join counts using (story) left join numbered using (story)
order by i.n
returning id, message_id, sequence
"""


async def write(connection: Connection, entries: Sequence[Entry]) -> list[OutboxRow]:
    """Insert the entries in their order. Must run in the transaction of the effect."""
    if not entries:
        return []
    columns: list[list[Any]] = [
        [e.message_id for e in entries],
        [e.stream for e in entries],
        [e.subject for e in entries],
        [e.story for e in entries],
        [e.counted for e in entries],
        [e.headers for e in entries],
        [e.body for e in entries],
    ]
    placed = {row["message_id"]: row for row in await connection.fetch(WRITE, *columns)}
    return [row_of(placed[e.message_id]["id"], placed[e.message_id]["sequence"], e) for e in entries]


def row_of(id: int, sequence: int, entry: Entry) -> OutboxRow:
    headers = entry.headers | ({"ce-sequence": str(sequence)} if sequence else {})
    return OutboxRow(id, entry.subject, entry.stream, headers, entry.body)


async def write_outbox(
    connection: Connection, source: str, messages: Sequence[tuple[Message | Staged, Context]]
) -> list[OutboxRow]:
    """Bulk form for committers that write the messages of many stories in one transaction."""
    return await write(connection, [entry_of(message, source, context) for message, context in messages])
