"""Mends what should not happen: one planner of all asks about runs nobody hears of, and finds lost intentions."""

from __future__ import annotations

import asyncio
from uuid import UUID

import structlog

from chassis.bus import Bus
from chassis.context import Context
from chassis.jobs import Jobs
from chassis.outage import Outage
from chassis.pausing import happens_within
from chassis.postgres import CONNECTION_LOST, Pool
from chassis.telemetry import RECONCILED
from chassis.unit_of_work import Tx, UnitOfWork
from contracts.errors import Code, Rejection, RetryLater
from contracts.executor import GetRun, Run
from contracts.planner import Task
from contracts.task_control import TaskRepaired
from services.planner.domain.drift import DETAIL, Fix, mended
from services.planner.domain.task import UNCONFIRMED, is_latest
from services.planner.handlers.dependencies import Dependencies
from services.planner.handlers.effects import confirm, show_run
from services.planner.handlers.intents import carry_order, start_if_due
from services.planner.store.drift import DriftStore, Left, Silent, alone
from services.planner.store.runs import RunStore
from services.planner.store.tasks import TaskRow, TaskStore

log = structlog.get_logger(__name__)

MOST_AT_ONCE = 200
INTENTIONS = (Fix.ORDER_LEFT, Fix.RELEASE_LEFT, Fix.START_LEFT)  # what is released is started


class Reconciler:
    """`every`: seconds between looks, and the silence after which a run is asked about."""

    def __init__(
        self, uow: UnitOfWork, pool: Pool, bus: Bus, jobs: Jobs, dependencies: Dependencies, *, every: float
    ) -> None:
        self._uow = uow
        self._pool = pool
        self._bus = bus
        self._jobs = jobs
        self._dependencies = dependencies
        self._every = every
        self._database = Outage("reconciler.database")

    async def run(self, stop: asyncio.Event) -> None:
        while not await happens_within(self._every, stop):
            try:
                await self.look()
                self._database.over()
            except CONNECTION_LOST as error:
                self._database.noticed(error)
            except RetryLater as away:
                log.info("reconciler.executor_away", reason=str(away))
            except Exception:  # what mends must not end the process: the next look tries again
                log.exception("reconciler.look_failed")

    async def look(self) -> None:
        """One pass, unless another planner is at it. Raises RetryLater when the executor is away."""
        async with alone(self._pool) as mine:
            if not mine:
                return
            for kind in INTENTIONS:
                for left in await DriftStore(self._pool).left(kind, self._every, MOST_AT_ONCE):
                    await self._intend_again(kind, left)
            for silent in await DriftStore(self._pool).silent_runs(self._every, MOST_AT_ONCE):
                await self._mend(silent, await self._ask(silent))

    async def _ask(self, silent: Silent) -> Run | None:
        request = GetRun(company=silent.company, run_id=silent.run_id, include_nodes=False)
        try:
            return (await self._bus.ask(request, Context())).run
        except Rejection as refusal:
            if refusal.failure.code is not Code.NOT_FOUND:
                raise
            return None

    async def _mend(self, silent: Silent, found: Run | None) -> None:
        async with self._uow.begin() as tx:
            row = await TaskStore(tx.conn).lock_task(silent.company, silent.task_id, deleted_too=True)
            runs = RunStore(tx.conn)
            run = await runs.run(silent.run_id)
            if row is None or run is None or not await DriftStore(tx.conn).is_still(silent):
                return  # it was heard of meanwhile
            repair = mended(run, found)
            current = await runs.latest_run(row.task.id)
            await runs.save_run(repair.run)
            if repair.fix is None:
                return
            if not row.deleted:
                tx.publish(_repaired(row.task, repair.fix, silent.run_id))
            if run.state in UNCONFIRMED:
                row = await confirm(tx, self._jobs, row, repair.run)
            if is_latest(repair.run, current):
                await show_run(tx, self._jobs, row, repair.run, repair.reason)
        self._fixed(repair.fix, task_id=str(silent.task_id), run_id=str(silent.run_id))

    async def _intend_again(self, kind: Fix, left: Left) -> None:
        async with self._uow.begin() as tx:
            row = await TaskStore(tx.conn).lock_task(left.company, left.task_id)
            if row is None or not await self._carried_out(tx, kind, row):
                return
            tx.publish(_repaired(row.task, kind))
        self._fixed(kind, task_id=str(left.task_id))

    async def _carried_out(self, tx: Tx, kind: Fix, row: TaskRow) -> bool:
        if kind is Fix.RELEASE_LEFT:
            return await self._dependencies.release_late(tx, row)
        if kind is Fix.START_LEFT:
            return await start_if_due(tx, self._jobs, row.task)
        await carry_order(tx, self._jobs, row.task)
        return True

    def _fixed(self, kind: Fix, **about: str) -> None:
        RECONCILED.labels(kind).inc()
        log.warning("task.repaired", kind=kind, **about)


def _repaired(task: Task, fix: Fix, run_id: UUID | None = None) -> TaskRepaired:
    about = {"company": task.company_id, "task_id": task.id, "title": task.title}
    return TaskRepaired(**about, repair=fix, detail=DETAIL[fix], run_id=run_id)
