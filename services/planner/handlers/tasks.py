"""Tasks: created, read, changed, deleted."""

from __future__ import annotations

from datetime import UTC, datetime

from chassis.context import Context
from chassis.jobs import Jobs
from chassis.postgres import Pool
from chassis.unit_of_work import Answered, Tx, UnitOfWork
from contracts import planner
from contracts.errors import Code, Rejection
from contracts.page import Page
from contracts.planner import (
    CreateTask,
    Deleted,
    DeleteTask,
    GetTask,
    ListTasks,
    Task,
    TaskCreated,
    TaskStatus,
    UpdateTask,
)
from services.planner.domain.launch import Terms, meta_of, run_id_of
from services.planner.domain.source import Brief, DraftOrder
from services.planner.domain.task import ACTIVE, changes_of
from services.planner.handlers.dependencies import depend, refuse_while_needed
from services.planner.handlers.drafting import enqueue
from services.planner.handlers.effects import known_project, locked, new_task, unknown_place, unknown_task
from services.planner.settings import PlannerSettings
from services.planner.store.companies import CompanyStore
from services.planner.store.dependencies import DependencyStore
from services.planner.store.runs import RunStore
from services.planner.store.tasks import TaskRow, TaskStore

START_TAKES = 30.0  # seconds within which an executor that was asked will have answered


class Tasks:
    def __init__(self, uow: UnitOfWork, pool: Pool, jobs: Jobs, settings: PlannerSettings) -> None:
        self._uow = uow
        self._pool = pool
        self._jobs = jobs
        self._settings = settings

    async def create(self, request: CreateTask, context: Context) -> TaskCreated:
        """With `auto_plan` or `auto_start` it waits a while for what was asked; the task is there either way."""
        try:
            async with self._uow.order(request, context) as tx:
                task = new_task(request, request.description, request.gate, datetime.now(UTC))
                created = tx.answer(await self._create(tx, request, task, context))
        except Answered as before:
            created = TaskCreated.model_validate(before.answer)
        if not (request.auto_plan or request.auto_start):
            return created
        return await self._waited(created)

    async def _create(self, tx: Tx, request: CreateTask, task: Task, context: Context) -> TaskCreated:
        await known_project(tx, task.company_id, task.project_id)
        run_id = run_id_of(request.command_id) if request.auto_start else None
        terms = Terms(run_id=run_id, meta=meta_of(context.request_id, "auto_start")) if run_id else None
        await TaskStore(tx.conn).add_task(task, launch_run_id=run_id, launch=terms)
        tx.publish(planner.TaskWasCreated(company=task.company_id, task_id=task.id, title=task.title))
        if request.dependencies:
            await depend(tx, task, request.dependencies)
        if request.auto_plan or request.auto_start:
            brief = Brief(title=task.title, description=task.description)
            await enqueue(tx, self._jobs, task, DraftOrder(brief=brief, terms=terms))
        return TaskCreated(task=(await locked(tx, task.company_id, task.id)).task, run_id=run_id)

    async def _waited(self, created: TaskCreated) -> TaskCreated:
        tasks = TaskStore(self._pool)
        row = await tasks.task(created.task.company_id, created.task.id)
        if row is None or row.job_id is None:
            return created
        state = await self._jobs.wait(row.job_id, self._settings.launch_wait)
        row = await tasks.task(created.task.company_id, created.task.id) or row
        came_to_nothing = state.ended and row.task.run_id is None
        return TaskCreated(task=row.task, run_id=None if came_to_nothing else created.run_id)

    async def get(self, request: GetTask, _: Context) -> Task:
        row = await TaskStore(self._pool).task(request.company, request.task_id)
        if row is None:
            raise unknown_task(request.task_id)
        return row.task

    async def page(self, request: ListTasks, _: Context) -> Page[Task]:
        found = await TaskStore(self._pool).tasks(request)
        if found.total == 0:
            await self._refuse_unknown_place(request)
        return found

    async def _refuse_unknown_place(self, request: ListTasks) -> None:
        companies = CompanyStore(self._pool)
        if not await companies.has_company(request.company):
            raise unknown_place(request.company, None)
        if request.project and not await companies.has_project(request.company, request.project):
            raise unknown_place(request.company, request.project)

    async def update(self, request: UpdateTask, context: Context) -> Task:
        async with self._uow.order(request, context) as tx:
            task = (await locked(tx, request.company, request.task_id)).task
            edited = task.model_copy(update=changes_of(request))
            if edited != task:
                await TaskStore(tx.conn).edit_task(edited)
                tx.publish(planner.TaskWasUpdated(company=request.company, task_id=task.id, title=edited.title))
            return tx.answer((await locked(tx, request.company, request.task_id)).task)

    async def delete(self, request: DeleteTask, context: Context) -> Deleted:
        async with self._uow.order(request, context) as tx:
            tasks = TaskStore(tx.conn)
            row = await tasks.lock_task(request.company, request.task_id)
            if row is not None:
                await self._refuse_while_active(tx, row)
                await refuse_while_needed(tx, row.task)
                await DependencyStore(tx.conn).forget(row.task.id)
                await tasks.delete_task(row.task.id)
                tx.publish(planner.TaskWasDeleted(company=request.company, task_id=row.task.id, title=row.task.title))
            return tx.answer(Deleted(existed=row is not None))

    async def _refuse_while_active(self, tx: Tx, row: TaskRow) -> None:
        starting = await RunStore(tx.conn).is_being_started(row.task.id, START_TAKES)
        if row.task.status in ACTIVE or starting:
            state = TaskStatus.RUNNING if starting else row.task.status
            raise Rejection(
                Code.ILLEGAL_STATE,
                f"a task cannot be deleted while it is {state}; cancel its run first",
                state=state,
                legal=sorted(set(TaskStatus) - ACTIVE),
                run_id=str(row.task.run_id or row.launch_run_id or ""),
            )
