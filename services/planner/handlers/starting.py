"""Asks the executor for a run that was noted before, and notes what it says; safe to repeat at any point.

The note (`task_runs`) is committed before the executor is asked. When its answer is lost, the caller's repetition asks
again under the same command id, or the run's own facts tell.
"""

from __future__ import annotations

import asyncio
from uuid import UUID

from chassis.bus import Bus
from chassis.context import Context
from chassis.unit_of_work import UnitOfWork
from contracts.errors import Code, Rejection, RetryLater
from contracts.executor import StartRun
from services.planner.domain.task import UNCONFIRMED, accepted, is_latest, launch_is_pending
from services.planner.handlers.effects import fail_launch, show_run
from services.planner.store import Store

PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8)  # seconds between looks while another process asks for the same run


class Starting:
    def __init__(self, uow: UnitOfWork, bus: Bus) -> None:
        self._uow = uow
        self._bus = bus

    async def make_sure(self, run_id: UUID, context: Context) -> None:
        """Returns when the executor has accepted. Raises its Rejection, or RetryLater when it does not answer."""
        for pause in PAUSES:
            order = await self._order(run_id, context)
            if order is None:
                return None
            try:
                await self._bus.ask(order, context)
                return await self._accepted(order, context)
            except Rejection as refusal:
                if refusal.failure.code is not Code.IN_FLIGHT:
                    await self._refused(order, refusal, context)
                    raise
                await asyncio.sleep(pause)
        raise RetryLater(1.0, f"another process is asking for run {run_id}; repeat the request in a moment")

    async def _order(self, run_id: UUID, context: Context) -> StartRun | None:
        async with self._uow.begin(context) as tx:
            return await Store(tx.conn).ask_again(run_id)

    async def _accepted(self, order: StartRun, context: Context) -> None:
        assert order.task_id is not None, "the planner starts tasks"
        async with self._uow.begin(context) as tx:
            store = Store(tx.conn)
            row = await store.lock_task(order.company, order.task_id, deleted_too=True)
            run = await store.run(order.run_id)
            if row is None or run is None or run.state not in UNCONFIRMED:
                return  # the run's facts were quicker than this answer
            current = await store.latest_run(row.task.id)
            run = accepted(run)
            await store.save_run(run)
            if is_latest(run, current):
                await show_run(tx, row, run)

    async def _refused(self, order: StartRun, refusal: Rejection, context: Context) -> None:
        assert order.task_id is not None, "the planner starts tasks"
        async with self._uow.begin(context) as tx:
            store = Store(tx.conn)
            row = await store.lock_task(order.company, order.task_id)
            if not await store.refuse_run(order.run_id) or row is None:
                return
            if launch_is_pending(row.task):
                await fail_launch(tx, row.task, str(refusal))
