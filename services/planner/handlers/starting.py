"""Asks the executor for a run that was noted before, and notes what it says; safe to repeat at any point.

The note (`task_runs`) is committed before the executor is asked. When its answer is lost, the caller's repetition asks
again under the same command id, or the run's own facts tell.
"""

from __future__ import annotations

import asyncio
from uuid import UUID

import structlog

from chassis.bus import Bus
from chassis.context import Context
from chassis.jobs import Jobs
from chassis.unit_of_work import UnitOfWork
from contracts.errors import Code, Rejection, RetryLater
from contracts.executor import StartRun
from services.planner.domain.control import let_start
from services.planner.domain.task import UNCONFIRMED, accepted, is_latest, launch_is_pending
from services.planner.handlers.effects import confirm, fail_launch, locked, show_run
from services.planner.store.runs import RunStore
from services.planner.store.tasks import TaskStore

log = structlog.get_logger(__name__)

PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8)  # seconds between looks while another process asks for the same run


class Starting:
    def __init__(self, uow: UnitOfWork, bus: Bus, jobs: Jobs) -> None:
        self._uow = uow
        self._bus = bus
        self._jobs = jobs

    async def make_sure(self, run_id: UUID, context: Context) -> None:
        """Returns when the executor has accepted. Raises its Rejection, that of a flag or of tasks that come first, or
        RetryLater when it does not answer."""
        for pause in PAUSES:
            order = await self._order(run_id, context)
            if order is None:
                return None
            try:
                answer = await self._bus.ask(order, context)
                return await self._accepted(order, answer.activation, context)
            except Rejection as refusal:
                if refusal.failure.code is not Code.IN_FLIGHT:
                    await self._refused(order, refusal, context)
                    raise
                await asyncio.sleep(pause)
        raise RetryLater(1.0, f"another process is asking for run {run_id}; repeat the request in a moment")

    async def _order(self, run_id: UUID, context: Context) -> StartRun | None:
        """Looked at under the task's lock: a flag that is set stops what has not been sent yet."""
        async with self._uow.begin(context) as tx:
            runs = RunStore(tx.conn)
            wanted = await runs.wanted(run_id)
            if wanted is None:
                return None
            assert wanted.task_id is not None, "the planner starts tasks"
            let_start((await locked(tx, wanted.company, wanted.task_id)).task)
            return await runs.ask_again(run_id)

    async def _accepted(self, order: StartRun, activation: int, context: Context) -> None:
        assert order.task_id is not None, "the planner starts tasks"
        async with self._uow.begin(context) as tx:
            runs = RunStore(tx.conn)
            row = await TaskStore(tx.conn).lock_task(order.company, order.task_id, deleted_too=True)
            run = await runs.run(order.run_id)
            if row is None or run is None or run.state not in UNCONFIRMED:
                return  # the run's facts were quicker than this answer
            current = await runs.latest_run(row.task.id)
            run = accepted(run, activation)
            await runs.save_run(run)
            row = await confirm(tx, self._jobs, row, run)
            if is_latest(run, current):
                await show_run(tx, self._jobs, row, run)

    async def _refused(self, order: StartRun, refusal: Rejection, context: Context) -> None:
        assert order.task_id is not None, "the planner starts tasks"
        async with self._uow.begin(context) as tx:
            row = await TaskStore(tx.conn).lock_task(order.company, order.task_id)
            if not await RunStore(tx.conn).refuse_run(order.run_id) or row is None:
                return
            if launch_is_pending(row.task):
                await fail_launch(tx, row.task, str(refusal))
            elif order.run_id == row.launch_run_id and refusal.failure.code is not Code.RUN_ACTIVE:
                await TaskStore(tx.conn).no_auto_start(row.task.id)  # it would be refused again and again
                log.warning("task.not_started", task_id=str(row.task.id), reason=str(refusal))
