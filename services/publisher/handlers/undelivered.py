"""What attempts wrote and never delivered is forgotten, once the executor says that it cannot be delivered any more."""

from __future__ import annotations

from dataclasses import dataclass

from chassis.bus import Bus
from chassis.context import Context
from chassis.postgres import Connection
from contracts.errors import Code, Rejection, RetryLater
from contracts.executor import NodeStatus
from contracts.review import GetReviewCase
from services.publisher.handlers.collecting import KIND
from services.publisher.store.staged import OldAttempt, StagedStore

AT_ONCE = 50  # attempts of a step
OPEN = frozenset({NodeStatus.QUEUED, NodeStatus.RUNNING, NodeStatus.REVIEWING, NodeStatus.PAUSED})


@dataclass(frozen=True, slots=True)
class Undelivered:
    """A rule of retention. `keep` in seconds; what may still be delivered then is kept as long again."""

    bus: Bus
    keep: float
    name: str = "staged"

    async def step(self, connection: Connection, most: int) -> int:
        """A result may wait for a person longer than anything is kept."""
        store, gone = StagedStore(connection), 0
        for attempt in await store.old(self.keep, min(most, AT_ONCE)):
            if await self._may_be_delivered(connection, attempt):
                await store.keep(attempt.node_id, attempt.attempt)
            else:
                gone += await store.clear(attempt.node_id, attempt.attempt)
        return gone

    async def _may_be_delivered(self, connection: Connection, of: OldAttempt) -> bool:
        """Raises RetryLater while nobody can say."""
        place = {"run_id": of.run_id, "node_id": of.node_id, "attempt": of.attempt}
        try:
            case = await self.bus.ask(GetReviewCase(company=of.company_id, **place), Context())
        except Rejection as refusal:
            if refusal.failure.code is not Code.NOT_FOUND:
                raise RetryLater(1.0, str(refusal)) from None
            return False
        if case.status is not NodeStatus.COMPLETED:
            return case.current and case.status in OPEN
        store = StagedStore(connection)  # the executor knows of it before its fact has come to us
        if await store.awaits_collection(KIND, of.node_id):
            return True
        return case.current and not await store.was_collected(KIND, of.node_id, of.attempt)
