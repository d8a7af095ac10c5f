"""Starts tasks that shall start by themselves, under one run id each: whoever tries, and however often, it is one run."""

from __future__ import annotations

from uuid import UUID

from chassis.context import Context
from chassis.job_table import Job
from chassis.jobs import Jobs
from chassis.unit_of_work import Tx, UnitOfWork
from contracts.errors import Code, Rejection, RetryLater
from services.planner.domain.control import GATES, is_due
from services.planner.domain.launch import start_run
from services.planner.domain.task import UNCONFIRMED
from services.planner.handlers.intents import again
from services.planner.handlers.starting import Starting
from services.planner.store.plans import PlanStore
from services.planner.store.runs import RunStore
from services.planner.store.tasks import TaskRow, TaskStore

BUSY = 2.0  # seconds until a task is tried again that has another run


class AutoStart:
    def __init__(self, uow: UnitOfWork, jobs: Jobs, starting: Starting) -> None:
        self._uow = uow
        self._jobs = jobs
        self._starting = starting

    async def work(self, job: Job) -> None:
        """Ends under the task's lock: what opens the way later finds no job to join, and commits another one."""
        try:
            while (run_id := await self._due_or_done(job)) is not None:
                await self._try(run_id, job.context)
        except RetryLater as away:
            raise again(job.attempt, away) from away

    async def start(self, company: str, task_id: UUID, context: Context) -> UUID | None:
        """The run the task was to start as; None when something is in the way. What removes that starts it."""
        while True:
            async with self._uow.begin(context) as tx:
                row = await TaskStore(tx.conn).lock_task(company, task_id)
                if row is None or not is_due(row.task):
                    return await self._started(tx, row)
                run_id = await self._intend(tx, row)
            await self._try(run_id, context)

    async def _due_or_done(self, job: Job) -> UUID | None:
        async with self._uow.begin(job.context) as tx:
            row = await TaskStore(tx.conn).lock_task(job.company, UUID(job.ref))
            if row is not None and is_due(row.task):
                return await self._intend(tx, row)
            run_id = await self._started(tx, row)
            await self._jobs.finish(tx, job, {"run_id": str(run_id)} if run_id else {})
            return None

    async def _intend(self, tx: Tx, row: TaskRow) -> UUID:
        assert row.launch is not None, "the tables see to it"
        plan = await PlanStore(tx.conn).plan_of(row.task.id)
        await RunStore(tx.conn).ask_for_run(row.task.id, start_run(row.task, plan, row.launch))
        return row.launch.run_id

    async def _started(self, tx: Tx, row: TaskRow | None) -> UUID | None:
        run = await RunStore(tx.conn).run(row.launch_run_id) if row and row.launch_run_id else None
        return None if run is None or run.state in UNCONFIRMED else run.run_id

    async def _try(self, run_id: UUID, context: Context) -> None:
        """What is in the way by now is looked at again under the task's lock."""
        try:
            await self._starting.make_sure(run_id, context)
        except Rejection as refusal:
            if refusal.failure.code is Code.RUN_ACTIVE:
                raise RetryLater(BUSY, str(refusal)) from refusal
            if refusal.failure.code not in GATES:
                raise
