"""What calls took that no turn books: their attempt had been canceled, or their run was not ours any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import structlog

from chassis.postgres import Pool
from services.executor.domain.facts import Effort, Failed, Spent, Succeeded, Unfunded
from services.executor.domain.run import AttemptStatus, Closed, Opened
from services.executor.engine import store
from services.executor.engine.inbox import Report

log = structlog.get_logger(__name__)

PATIENCE = 5.0  # seconds for what is under way when we shall stop


class LateBooks:
    """Calls that were paid for are in the books, whatever has become of their attempt."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._under_way: set[asyncio.Task[None]] = set()

    def book(
        self,
        run_id: UUID,
        attempt: Opened,
        effort: Effort,
        sidecars: Sequence[dict[str, Any]],
        tell: Callable[[Report], None] | None = None,
    ) -> None:
        """`tell` is for an owner of the run that still has to know of it."""
        closed = Closed(attempt.node, attempt.number, AttemptStatus.CANCELED, effort=effort)
        task = asyncio.create_task(self._book(run_id, closed, sidecars, tell))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    def book_void(self, report: Report) -> None:
        """Its run had ended, or was given away, before a turn could take it."""
        fact = report.fact
        assert report.node is not None, "model calls are made for a node"
        assert isinstance(fact, Succeeded | Failed | Unfunded), "only these have calls behind them"
        self.book(report.run_id, Opened(report.node, fact.attempt), fact.effort, report.sidecars)

    async def drain(self) -> None:
        """Wait until what there is has been booked."""
        if self._under_way:
            await asyncio.wait(set(self._under_way), timeout=PATIENCE)

    async def _book(
        self, run_id: UUID, closed: Closed, sidecars: Sequence[dict[str, Any]], tell: Callable[[Report], None] | None
    ) -> None:
        node, number = closed.node, closed.number
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                await store.save_efforts(connection, [closed])
                await store.save_sidecars(connection, store.numbered(run_id, node.id, number, sidecars))
        except store.TROUBLE as error:
            log.warning("node.cost_not_noted", node_id=str(node.id), error=repr(error))
        else:
            if tell is not None:
                tell(Report(run_id, Spent(closed.effort.spend)))
