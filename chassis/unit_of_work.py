"""One transaction, one effect: state, inbox or command row, and the messages that tell of it commit together."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import structlog
from pydantic import BaseModel

from chassis import outbox
from chassis.blobs import STAGED, Blobs
from chassis.context import Context
from chassis.outbox import Staged
from chassis.postgres import Connection, Pool
from chassis.relay import Relay
from contracts.envelope import CLAIM_CHECK_BYTES, Envelope
from contracts.errors import Code, FluidcrewError, Rejection
from contracts.message import Message, Request

log = structlog.get_logger(__name__)
A = TypeVar("A", bound=BaseModel)

SEEN = "insert into inbox (consumer, message_id) values ($1, $2) on conflict do nothing"
ANSWERED = "select request_hash, answer from commands where command_id = $1"
REMEMBER = "insert into commands (command_id, request_hash, answer) values ($1, $2, $3)"


#: whether the order that is being handled was carried out before; a handler may catch Answered and say more
REPLAYED: ContextVar[bool] = ContextVar("replayed", default=False)


class AlreadyHandled(FluidcrewError):
    """This consumer has had this message; its effect stands."""


class Answered(FluidcrewError):
    """This order was answered before; `answer` is what was said then."""

    def __init__(self, answer: Any) -> None:
        super().__init__("answered before")
        self.answer = answer


class Tx:
    """An open transaction. Messages and hooks take effect with its commit."""

    def __init__(self, connection: Connection, context: Context) -> None:
        self.conn = connection
        self.context = context
        self.messages: list[Message | Staged] = []
        self.hooks: list[Callable[[], Awaitable[None]]] = []
        self.answered: BaseModel | None = None

    def publish(self, *messages: Message | Staged) -> None:
        self.messages.extend(messages)

    def answer(self, answer: A) -> A:
        """Keep the answer of an order, so that its repetition is answered the same."""
        self.answered = answer
        return answer

    def after_commit(self, hook: Callable[[], Awaitable[None]]) -> None:
        """Run after the commit; best effort, a crash in between skips it."""
        self.hooks.append(hook)


class UnitOfWork:
    def __init__(self, service: str, pool: Pool, relay: Relay, blobs: Blobs) -> None:
        self._service = service
        self._pool = pool
        self._relay = relay
        self._blobs = blobs

    async def stage(self, message: Message) -> Message | Staged:
        """Put a large body into the object store before the transaction that publishes it."""
        body = message.model_dump_json().encode()
        if len(body) <= CLAIM_CHECK_BYTES:
            return message
        ref = await self._blobs.put(body, company=f"{STAGED}/{message.company}", content_type="application/json")
        return Staged(message, ref)

    @asynccontextmanager
    async def begin(self, context: Context | None = None) -> AsyncIterator[Tx]:
        async with self._pool.acquire() as connection:
            tx = Tx(connection, context or Context())
            async with connection.transaction():
                yield tx
                messages = [(message, tx.context) for message in tx.messages]
                batches = await outbox.write_outbox(connection, self._service, messages)
        await self._relay.hand_over(batches)
        for hook in tx.hooks:
            await _best_effort(hook)

    @asynccontextmanager
    async def handling(self, envelope: Envelope, consumer: str) -> AsyncIterator[Tx]:
        """The transaction of a message's effect. Raises AlreadyHandled when it has been done."""
        async with self.begin(Context.from_envelope(envelope)) as tx:
            if await tx.conn.execute(SEEN, consumer, envelope.id) == "INSERT 0 0":
                raise AlreadyHandled
            yield tx

    @asynccontextmanager
    async def order(self, request: Request[Any], context: Context) -> AsyncIterator[Tx]:
        """The transaction of an order that carries a `command_id`. Raises Answered, or Rejection when it cannot be."""
        command_id = request.command_id  # type: ignore[attr-defined]
        digest = fingerprint(request)
        async with self.begin(context) as tx:
            if not await tx.conn.fetchval(
                "select pg_try_advisory_xact_lock(hashtextextended($1, 0))", f"{self._service}.{command_id}"
            ):
                raise Rejection(Code.IN_FLIGHT, "the same request is being answered right now; repeat it in a moment")
            if row := await tx.conn.fetchrow(ANSWERED, command_id):
                if row["request_hash"] != digest:
                    raise Rejection(
                        Code.IDEMPOTENCY_MISMATCH,
                        "this Idempotency-Key was used with another body; send a new key with a new request",
                    )
                REPLAYED.set(True)
                raise Answered(row["answer"])
            yield tx
            if tx.answered is None:
                raise RuntimeError(f"{type(request).__name__} was handled without tx.answer()")
            await tx.conn.execute(REMEMBER, command_id, digest, tx.answered.model_dump(mode="json"))


async def _best_effort(hook: Callable[[], Awaitable[None]]) -> None:
    """The effect is committed: a hook that fails must not make a failure of it."""
    try:
        await hook()
    except Exception:
        log.exception("transaction.hook_failed")


def fingerprint(request: BaseModel) -> str:
    """What makes two requests the same: everything but the command id, who is said to ask (`by`), when (`asked_at`), and
    what was looked up for them (`critique`).

    Defaults do not count: a retry may be built by another release, whose contract has fields that this one's had not.
    """
    body = request.model_dump_json(exclude={"command_id", "by", "asked_at", "critique"}, exclude_defaults=True)
    return hashlib.sha256(f"{type(request).__name__} {body}".encode()).hexdigest()
