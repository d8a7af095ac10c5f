"""Dead letters: what a consumer gave up on, kept with its bytes and the reason; listed, shown and replayed on demand.

A dead letter is told on the bus as a new message (`dlq.<durable>`). A replay is a new message as well: new id, `replay_of`,
handed to the one consumer that gave up, so that nobody else handles it twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from uuid import UUID, uuid4, uuid5

from chassis import outbox, wire
from chassis.context import Context
from chassis.outbox import Entry
from chassis.postgres import Pool, storable
from chassis.relay import Relay
from chassis.unit_of_work import AlreadyHandled
from contracts import subjects
from contracts.envelope import MAX_WIRE_BYTES, Envelope
from contracts.errors import Code, Rejection
from contracts.page import Page
from contracts.story import DeadLetter, Replayed

ONE_AT_A_TIME = "select pg_advisory_xact_lock(hashtextextended($1, 0))"  # or two would find that it is not buried yet
BURY = """
insert into dead_letters (id, consumer, message_id, subject, headers, body, reason, attempts)
values ($1, $2, $3, $4, $5, $6, $7, $8)
"""
HANDLED = "insert into inbox (consumer, message_id) values ($1, $2) on conflict do nothing"
BURIED = "select exists (select from dead_letters where consumer = $1 and message_id = $2 and body = $3)"
COLUMNS = "id, consumer, subject, headers, body, reason, attempts, created_at, replayed_at"
ORDER = {"attempts": "attempts", "created_at": "created_at", "durable": "consumer", "replayed_at": "replayed_at"}
GET = f"select {COLUMNS} from dead_letters where id = $1"
MARK_REPLAYED = "update dead_letters set replayed_at = clock_timestamp() where id = $1"

PLACES = UUID("6f1d9a52-8d0e-5b1f-9a3c-2f6f0c7f4d11")

Replay = Callable[[str, Mapping[str, str], bytes], Awaitable[None]]


class DeadLetters:
    def __init__(self, service: str, pool: Pool, relay: Relay) -> None:
        self._service = service
        self._pool = pool
        self._relay = relay
        self.replayers: dict[str, Replay] = {}  # durable -> how to handle a message again

    async def bury(
        self,
        durable: str,
        subject: str,
        headers: dict[str, str],
        body: bytes,
        reason: str,
        attempts: int,
        *,
        reply: str = "",
    ) -> None:
        """Keep the message and tell of it, in one transaction; the caller acks afterwards.

        `reply` is where its ack goes: what has no id is known by it when it comes again.
        """
        id, original = uuid4(), message_id(headers)
        known = original or id_of_place(reply)
        headers, reason = {k: storable(v) for k, v in headers.items()}, storable(reason)
        entry = Entry(
            stream="DLQ",
            subject=subjects.dead_letter(durable),
            story=str(id),
            counted=False,
            head=wire.head_of(_letter_headers(id, self._service, durable, subject, reason, original)),
            body=body[: MAX_WIRE_BYTES - 8192],
            message_id=id,
        )
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(ONE_AT_A_TIME, f"dead letter {durable} {known}")
            if await connection.fetchval(BURIED, durable, known, body):
                return  # it came again because its ack was lost, or late
            await connection.execute(BURY, id, durable, known, subject, headers, body, reason[:8000], attempts)
            if original is not None:
                await connection.execute(HANDLED, durable, original)
            batches = await outbox.write(connection, [entry])
        await self._relay.hand_over(batches)

    async def list(self, limit: int, offset: int, order_by: str | None = None) -> Page[DeadLetter]:
        """The newest first, when no order is asked for."""
        listed = f"select {COLUMNS} from dead_letters order by {_order(order_by or '-created_at')} limit $1 offset $2"
        rows = await self._pool.fetch(listed, limit, offset)
        total = await self._pool.fetchval("select count(*) from dead_letters")
        return Page(items=[_letter(row, with_body=False) for row in rows], total=total)

    async def get(self, id: UUID) -> DeadLetter:
        return _letter(await self._row(id), with_body=True)

    async def _row(self, id: UUID) -> Any:
        row = await self._pool.fetchrow(GET, id)
        if row is None:
            raise Rejection(Code.NOT_FOUND, f"there is no dead letter {id}")
        return row

    async def replay(self, id: UUID, context: Context) -> Replayed:
        """Let its consumer handle the message again, now. A failure is raised and leaves the letter as it was.

        The new id is always the same one: however often a letter is replayed, its effect happens once.
        """
        row = await self._row(id)
        if (handle := self.replayers.get(row["consumer"])) is None:
            raise Rejection(Code.NOT_FOUND, f"no consumer {row['consumer']} runs in {self._service}")
        new_id = uuid5(id, "replay")
        headers = dict(row["headers"]) | {
            "ce-id": str(new_id),
            "Nats-Msg-Id": str(new_id),
            "x-replay-of": str(row["headers"].get("Nats-Msg-Id", id)),
            "x-request-id": context.request_id,
        }
        outcome = "handled"
        try:
            await handle(row["subject"], headers, bytes(row["body"]))
        except AlreadyHandled:
            outcome = "repeated"
        await self._pool.execute(MARK_REPLAYED, id)
        return Replayed(id=id, message_id=new_id, outcome=outcome)


def _letter_headers(
    id: UUID, source: str, durable: str, subject: str, reason: str, original: UUID | None
) -> dict[str, str]:
    envelope = Envelope(
        id=id, type="dead_letter", source=source, story=str(id), replay_of="", causation_id=str(original or "")
    )
    one_line = " ".join(reason.split())[:1000].encode("ascii", "replace").decode()
    return envelope.headers() | {"x-durable": durable, "x-subject": subject, "x-reason": one_line}


def _order(asked: str) -> str:
    """Only our own column names get into the statement. The id keeps pages apart."""
    column = ORDER.get(asked.removeprefix("-"))
    if column is None:
        allowed = ", ".join(ORDER)
        error = {"type": "order_by", "loc": ["query", "order_by"], "msg": f"must be one of {allowed}"}
        raise Rejection(Code.INVALID, f"order_by must be one of {allowed}", errors=[error])
    return f"{column} {'desc' if asked.startswith('-') else 'asc'} nulls last, id"


def _letter(row: Any, *, with_body: bool) -> DeadLetter:
    body = bytes(row["body"]).decode("utf-8", "replace") if with_body else None
    return DeadLetter(
        id=row["id"],
        durable=row["consumer"],
        subject=row["subject"],
        reason=row["reason"],
        attempts=row["attempts"],
        created_at=row["created_at"],
        replayed_at=row["replayed_at"],
        headers=row["headers"],
        body=body,
    )


def message_id(headers: Mapping[str, str]) -> UUID | None:
    """What an inbox knows the message by: a fact that its owner says again comes under another Nats-Msg-Id."""
    for name in ("ce-id", "Nats-Msg-Id"):
        try:
            return UUID(headers.get(name, ""))
        except ValueError:
            continue
    return None


def id_of_place(reply: str) -> UUID | None:
    """An id that follows from a message's place in its stream, and when it came there; None for what is in no stream."""
    match reply.split("."):
        case ["$JS", "ACK", stream, _, _, sequence, _, stamp, _]:
            return uuid5(PLACES, f"{stream} {sequence} {stamp}")
        case ["$JS", "ACK", _, _, stream, _, _, sequence, _, stamp, _, *_]:  # with domain and account
            return uuid5(PLACES, f"{stream} {sequence} {stamp}")
    return None
