"""Dead letters of orders and verdicts: what cannot be carried out must not hold up what comes behind it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from uuid import UUID, uuid5

import structlog

from chassis.bus import Bus
from chassis.context import Context
from chassis.dead_letters import DeadLetters
from chassis.unit_of_work import UnitOfWork
from contracts.envelope import Envelope
from contracts.errors import Code, Rejection
from contracts.run_facts import RunOrderDropped
from services.executor.domain.control import WANTS
from services.executor.domain.facts import Asked
from services.executor.engine import signals
from services.executor.engine.signals import DEAD_ORDERS
from services.executor.steering import store
from services.executor.steering.store import Blamed

log = structlog.get_logger(__name__)

MOST_TRIES = 3  # turns that an order may break
REST = 0.5  # seconds before it is tried again, for each time that it was


class DeadOrders:
    def __init__(self, uow: UnitOfWork, letters: DeadLetters, bus: Bus) -> None:
        self._uow = uow
        self._letters = letters
        self._bus = bus
        letters.replayers[DEAD_ORDERS] = self.replay

    async def blame(self, run_id: UUID, error: Exception) -> None:
        """A turn of the run broke that has read its orders, if it has any."""
        async with self._uow.begin() as tx:
            order = await store.blame(tx.conn, run_id)
            if order is not None and order.tries < MOST_TRIES:
                await store.look_again(tx.conn, run_id, REST * order.tries)
        if order is not None and order.tries >= MOST_TRIES:
            await self._set_aside(run_id, order, f"{type(error).__name__}: {error}"[:2000])

    async def _set_aside(self, run_id: UUID, order: Blamed, reason: str) -> None:
        """Buried before it is dropped: a crash in between buries it once more, which changes nothing."""
        id = uuid5(run_id, str(order.id))
        envelope = Envelope(id=id, type="order", source="executor", story=str(run_id), time=order.created_at)
        body = json.dumps(order.payload).encode()
        await self._letters.bury(DEAD_ORDERS, order.kind, envelope.headers(), body, reason, order.tries)
        async with self._uow.begin(Context.of(order.context)) as tx:
            if await store.drop(tx.conn, run_id, order.id):
                await store.look_again(tx.conn, run_id, 0)
                tx.publish(_told(run_id, order, reason))
                tx.after_commit(lambda: self._bus.ring("run", str(run_id).encode()))
        log.error("order.set_aside", run_id=str(run_id), kind=order.kind, reason=reason)

    async def replay(self, kind: str, headers: Mapping[str, str], body: bytes) -> None:
        """Somebody has mended what was wrong. Raises Rejection(not_found) when the run is gone."""
        envelope = Envelope.from_headers(headers)
        run_id = UUID(envelope.story)
        async with self._uow.handling(envelope, DEAD_ORDERS) as tx:
            if not await store.is_there(tx.conn, run_id):
                raise Rejection(Code.NOT_FOUND, f"there is no run {run_id} any more")
            order = signals.read(kind, json.loads(body))
            await store.leave(tx.conn, run_id, order)
            if isinstance(order, Asked):
                await store.note_wish(tx.conn, run_id, WANTS[order.action], order.mode, order.by)
            tx.after_commit(lambda: self._bus.ring("run", str(run_id).encode()))


def _told(run_id: UUID, order: Blamed, reason: str) -> RunOrderDropped:
    return RunOrderDropped(
        company=order.company,
        run_id=run_id,
        task_id=order.task_id,
        title=order.title,
        order=order.kind,
        key=order.payload.get("key"),
        by=order.payload.get("by"),
        reason=reason,
    )
