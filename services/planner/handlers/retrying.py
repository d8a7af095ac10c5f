"""Retries: a further run of a task that takes over what an earlier one has finished."""

from __future__ import annotations

from uuid import UUID

from chassis.bus import Bus
from chassis.context import Context
from chassis.postgres import Pool
from chassis.unit_of_work import Answered, Tx, UnitOfWork
from contracts.errors import Code, Rejection
from contracts.executor import GetRun, RunDetail, RunStatus
from contracts.planner import RunAccepted
from contracts.task_control import RetryTask
from services.planner.domain.control import let_start
from services.planner.domain.launch import another, run_id_of, start_run
from services.planner.domain.task import address
from services.planner.handlers.effects import locked
from services.planner.handlers.starting import Starting
from services.planner.store.plans import PlanStore
from services.planner.store.runs import RunStore

LOOK_BACK = 5  # earlier runs that are asked for results
ACTIVE = frozenset({RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.PAUSED})


class Retrying:
    def __init__(self, uow: UnitOfWork, pool: Pool, bus: Bus, starting: Starting) -> None:
        self._uow = uow
        self._pool = pool
        self._bus = bus
        self._starting = starting

    async def retry(self, request: RetryTask, context: Context) -> RunAccepted:
        """Raises Rejection(illegal_state) when it never ran, (run_active), what starting raises, or RetryLater."""
        run_id = run_id_of(request.command_id)
        reuse = None if request.fresh else await self._with_results(request, run_id, context)
        try:
            async with self._uow.order(request, context) as tx:
                accepted = tx.answer(await self._intend(tx, request, run_id, reuse))
        except Answered as before:
            accepted = RunAccepted.model_validate(before.answer)
        await self._starting.make_sure(accepted.run_id, context)
        return accepted

    async def _intend(self, tx: Tx, request: RetryTask, run_id: UUID, reuse: UUID | None) -> RunAccepted:
        row = await locked(tx, request.company, request.task_id)
        runs, task = RunStore(tx.conn), row.task
        let_start(task)
        earlier = await runs.earlier_runs(task.id, 1)
        if not earlier:
            start_it = address(task.company_id, task.id, "/run")
            raise Rejection(
                Code.ILLEGAL_STATE,
                f"the task has never run, so there is nothing to retry; start it with POST {start_it}",
                state=task.status,
                legal=["run"],
            )
        terms = another(run_id, row.launch, request_id=tx.context.request_id, origin="retry")
        plan = await PlanStore(tx.conn).plan_of(task.id)
        start = start_run(task, plan, terms, reuse_run_id=reuse)
        await runs.ask_for_run(task.id, start, retries=earlier[0], fresh=request.fresh)
        return RunAccepted(run_id=run_id, task_id=task.id)

    async def _with_results(self, request: RetryTask, run_id: UUID, context: Context) -> UUID | None:
        """The latest run that finished any node. An order that was taken before is not looked at again."""
        runs = RunStore(self._pool)
        if await runs.has(run_id):
            return None
        for place, earlier in enumerate(await runs.earlier_runs(request.task_id, LOOK_BACK)):
            found = await self._look(request.company, earlier, context)
            if place == 0 and found is not None and found.run.status in ACTIVE:
                raise Rejection(Code.RUN_ACTIVE, f"run {earlier} of this task is still active", run_id=str(earlier))
            if found is not None and found.summary.nodes_completed > 0:
                return earlier
        return None

    async def _look(self, company: str, run_id: UUID, context: Context) -> RunDetail | None:
        try:
            return await self._bus.ask(GetRun(company=company, run_id=run_id, include_nodes=False), context)
        except Rejection as refusal:
            if refusal.failure.code is not Code.NOT_FOUND:
                raise
            return None  # so old that the executor has forgotten it
