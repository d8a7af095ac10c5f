"""Starts tasks: those with a ready plan, and ad-hoc runs, which are created, planned and started in one go."""

from __future__ import annotations

from datetime import UTC, datetime

from chassis.context import Context
from chassis.jobs import Jobs
from chassis.postgres import Pool
from chassis.unit_of_work import Answered, Tx, UnitOfWork
from contracts.errors import Code, Rejection, RetryLater
from contracts.planner import (
    LaunchTask,
    PlanStatus,
    RunAccepted,
    StartTask,
    Task,
    TaskSpec,
    TaskWasCreated,
)
from services.planner.adapters.task_files import TaskFiles
from services.planner.domain.control import let_start
from services.planner.domain.graph import sound
from services.planner.domain.launch import Terms, another, meta_of, run_id_of, start_run
from services.planner.domain.source import Brief, DraftOrder, Explicit, gate_of, source, spec_of
from services.planner.handlers.drafting import enqueue, refusal_of
from services.planner.handlers.effects import add_version, known_project, locked, new_task
from services.planner.handlers.starting import Starting
from services.planner.settings import PlannerSettings
from services.planner.store.plans import NewVersion, PlanStore
from services.planner.store.runs import RunStore
from services.planner.store.tasks import TaskRow, TaskStore


class Launching:
    def __init__(
        self,
        uow: UnitOfWork,
        pool: Pool,
        jobs: Jobs,
        starting: Starting,
        files: TaskFiles,
        settings: PlannerSettings,
    ) -> None:
        self._uow = uow
        self._pool = pool
        self._jobs = jobs
        self._starting = starting
        self._files = files
        self._settings = settings

    async def start(self, request: StartTask, context: Context) -> RunAccepted:
        """Whether the task may have another run beside one there is, is the executor's to say; its refusal is passed on."""
        try:
            async with self._uow.order(request, context) as tx:
                row = await locked(tx, request.company, request.task_id)
                task, run_id = row.task, run_id_of(request.command_id)
                let_start(task)
                terms = another(run_id, row.launch, dry_run=request.dry_run, request_id=context.request_id)
                plan = await PlanStore(tx.conn).plan_of(task.id)
                await RunStore(tx.conn).ask_for_run(task.id, start_run(task, plan, terms))
                accepted = tx.answer(RunAccepted(run_id=run_id, task_id=task.id, dry_run=request.dry_run))
        except Answered as before:
            accepted = RunAccepted.model_validate(before.answer)
        await self._starting.make_sure(accepted.run_id, context)
        return accepted

    async def launch(self, request: LaunchTask, context: Context) -> RunAccepted:
        """The same dedupe key again, while its run is alive, is answered with that run, whatever else is asked."""
        loaded = await self._files.read(request.task_file) if request.task_file else None
        wanted, spec = source(request, loaded), spec_of(request, loaded)
        if isinstance(wanted, Explicit):
            wanted = Explicit(sound(wanted.graph), wanted.origin)
        try:
            async with self._uow.order(request, context) as tx:
                accepted = tx.answer(await self._launch(tx, request, wanted, spec, context))
        except Answered as before:
            accepted = RunAccepted.model_validate(before.answer)
        await self._until_started(request.company, accepted, context)
        return accepted

    async def _launch(
        self, tx: Tx, request: LaunchTask, wanted: Explicit | Brief, spec: TaskSpec, context: Context
    ) -> RunAccepted:
        await known_project(tx, request.company, request.project)
        gate, description = gate_of(request, spec), request.description or spec.description
        task = new_task(request, description, gate, datetime.now(UTC), ad_hoc=True)
        origin = wanted.origin if isinstance(wanted, Explicit) else "supervisor"
        terms = Terms(
            run_id=run_id_of(request.command_id),
            options=request.options,
            params=spec.params,
            meta=meta_of(context.request_id, origin, {"type": spec.type} if spec.type else None),
        )
        task = task.model_copy(update={"auto_start": isinstance(wanted, Brief)})  # as soon as there is a plan
        added = await TaskStore(tx.conn).add_task(
            task, launch_run_id=terms.run_id, launch=terms, dedupe_key=request.dedupe_key
        )
        if not added:
            return await self._same_run(tx, request)
        tx.publish(TaskWasCreated(company=task.company_id, task_id=task.id, title=task.title))
        if isinstance(wanted, Explicit):
            await self._plan(tx, task, wanted, terms)
        else:
            await enqueue(tx, self._jobs, task, DraftOrder(brief=wanted, terms=terms))
        return RunAccepted(run_id=terms.run_id, task_id=task.id, dry_run=request.options.dry_run)

    async def _plan(self, tx: Tx, task: Task, wanted: Explicit, terms: Terms) -> None:
        await add_version(tx, task, NewVersion(PlanStatus.READY, wanted.graph, wanted.origin))
        plan = await PlanStore(tx.conn).plan_of(task.id)
        await RunStore(tx.conn).ask_for_run(task.id, start_run(task, plan, terms))

    async def _same_run(self, tx: Tx, request: LaunchTask) -> RunAccepted:
        assert request.dedupe_key is not None, "only a dedupe key can be in the way"
        row = await TaskStore(tx.conn).lock_task_by_key(request.company, request.dedupe_key)
        if row is None or row.launch_run_id is None:
            raise RetryLater(0.5, "the run of this X-Request-ID has just ended; send the request again")
        run = await RunStore(tx.conn).run(row.launch_run_id)
        dry_run = run.dry_run if run else request.options.dry_run
        return RunAccepted(run_id=row.launch_run_id, task_id=row.task.id, dry_run=dry_run)

    async def _until_started(self, company: str, accepted: RunAccepted, context: Context) -> None:
        row = await TaskStore(self._pool).task(company, accepted.task_id)
        if row is None or row.job_id is None:
            await self._starting.make_sure(accepted.run_id, context)
            return
        state = await self._jobs.wait(row.job_id, self._settings.launch_wait)
        if state.state == "failed":
            raise refusal_of(state)
        if state.ended and "run_id" not in (state.result or {}):
            row = await TaskStore(self._pool).task(company, accepted.task_id) or row
            if row.task.auto_start:
                let_start(row.task)
            raise await self._no_plan(company, row)

    async def _no_plan(self, company: str, row: TaskRow) -> Rejection:
        plan = await PlanStore(self._pool).plan_of(row.task.id)
        errors = plan.errors if plan else []
        return Rejection(
            Code.PLAN_NOT_READY,
            f"the supervisor gave no usable plan: {'; '.join(errors[:3]) or 'no reason is known'}",
            task_id=str(row.task.id),
            plan_id=str(plan.id) if plan else None,
            errors=errors,
        )
