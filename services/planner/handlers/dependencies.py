"""Which tasks wait for which: added, removed, shown, and released when the last one they wait for is completed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal
from uuid import UUID

from chassis.context import Context
from chassis.job_table import Job
from chassis.jobs import Jobs
from chassis.postgres import Pool
from chassis.unit_of_work import Tx, UnitOfWork
from contracts.errors import Code, Rejection
from contracts.planner import Task, TaskStatus
from contracts.task_control import (
    AddDependencies,
    ListDependencies,
    ListDependents,
    RemoveDependency,
    TaskDependenciesChanged,
    TaskLinks,
    TaskReleased,
)
from services.planner.domain.control import is_due
from services.planner.domain.dependencies import refuse_cycle
from services.planner.handlers.effects import locked, unknown_task
from services.planner.handlers.intents import start_if_due
from services.planner.store.dependencies import DependencyStore
from services.planner.store.tasks import TaskRow, TaskStore

NAMED = 5  # tasks in a message


class Dependencies:
    def __init__(self, uow: UnitOfWork, pool: Pool, jobs: Jobs) -> None:
        self._uow = uow
        self._pool = pool
        self._jobs = jobs

    async def add(self, request: AddDependencies, context: Context) -> TaskLinks:
        """Raises Rejection(not_found) or (cycle)."""
        async with self._uow.order(request, context) as tx:
            await DependencyStore(tx.conn).alone(request.company)
            task = (await locked(tx, request.company, request.task_id)).task
            await depend(tx, task, request.depends_on)
            return tx.answer(await self._links(tx, task.company_id, task.id))

    async def remove(self, request: RemoveDependency, context: Context) -> TaskLinks:
        async with self._uow.order(request, context) as tx:
            dependencies = DependencyStore(tx.conn)
            task = (await locked(tx, request.company, request.task_id)).task
            if await dependencies.remove(task.id, request.depends_on):
                tx.publish(_changed(task, "removed", [request.depends_on]))
                task = (await locked(tx, request.company, request.task_id)).task
                if not task.waits_for:
                    await dependencies.set_waiting(task.id, False)
                await start_if_due(tx, self._jobs, task)
            return tx.answer(await self._links(tx, task.company_id, task.id))

    async def _links(self, tx: Tx, company: str, task_id: UUID) -> TaskLinks:
        task = (await locked(tx, company, task_id)).task
        items = await DependencyStore(tx.conn).dependencies(task_id)
        return TaskLinks(task_id=task_id, items=items, waiting=bool(task.waits_for))

    async def dependencies(self, request: ListDependencies, _: Context) -> TaskLinks:
        task = await self._task(request.company, request.task_id)
        items = await DependencyStore(self._pool).dependencies(task.id)
        return TaskLinks(task_id=task.id, items=items, waiting=bool(task.waits_for))

    async def dependents(self, request: ListDependents, _: Context) -> TaskLinks:
        task = await self._task(request.company, request.task_id)
        items = await DependencyStore(self._pool).dependents(task.id)
        return TaskLinks(task_id=task.id, items=items, waiting=bool(task.waits_for))

    async def _task(self, company: str, id: UUID) -> Task:
        row = await TaskStore(self._pool).task(company, id)
        if row is None:
            raise unknown_task(id)
        return row.task

    # the job

    async def work(self, job: Job) -> None:
        """One task at a time: of several that are completed at once, the last to look finds nothing left to wait for."""
        done = UUID(job.payload["task_id"])
        for task in await DependencyStore(self._pool).dependents(done):
            await self.release(job.company, task.id, done, job.context)
        async with self._uow.begin(job.context) as tx:
            await self._jobs.finish(tx, job, {})

    async def release(self, company: str, task_id: UUID, done: UUID, context: Context) -> None:
        async with self._uow.begin(context) as tx:
            if (row := await TaskStore(tx.conn).lock_task(company, task_id)) is not None:
                await self._released(tx, row, done)

    async def release_late(self, tx: Tx, row: TaskRow) -> bool:
        """A locked task whose release got lost. Returns whether it was waiting, and waits for nothing more."""
        needed = await DependencyStore(tx.conn).dependencies(row.task.id)
        return bool(needed) and await self._released(tx, row, needed[-1].id)

    async def _released(self, tx: Tx, row: TaskRow, done: UUID) -> bool:
        if row.task.waits_for:
            return False
        if row.waiting:
            await DependencyStore(tx.conn).set_waiting(row.task.id, False)
            tx.publish(_released(row.task, done))
        await start_if_due(tx, self._jobs, row.task)
        return row.waiting


async def depend(tx: Tx, task: Task, wanted: Sequence[UUID]) -> None:
    """Let this task wait for those. A task that is new needs no `alone` before: nobody can wait for it yet."""
    dependencies, ids = DependencyStore(tx.conn), list(dict.fromkeys(wanted))
    there = await dependencies.hold(task.company_id, ids)
    if missing := [id for id in ids if id not in there]:
        raise Rejection(
            Code.NOT_FOUND,
            f"there is no task {', '.join(map(str, missing[:NAMED]))} in this company to wait for",
            missing=[str(id) for id in missing],
        )
    needs = await dependencies.upstream(ids)
    titles = await dependencies.titles({task.id, *ids, *needs, *(id for several in needs.values() for id in several)})
    refuse_cycle(needs, task.id, ids, titles)
    if added := await dependencies.add(task.company_id, task.id, ids):
        tx.publish(_changed(task, "added", added))
    if (await locked(tx, task.company_id, task.id)).task.waits_for:
        await dependencies.set_waiting(task.id, True)


async def refuse_while_needed(tx: Tx, task: Task) -> None:
    """A task that others wait for cannot go, or they would wait for ever."""
    if task.status is TaskStatus.COMPLETED:
        return
    if waiting := await DependencyStore(tx.conn).dependents(task.id):
        named = ", ".join(repr(other.title) for other in waiting[:NAMED]) + (" …" if len(waiting) > NAMED else "")
        raise Rejection(
            Code.ILLEGAL_STATE,
            f"{'one task waits' if len(waiting) == 1 else f'{len(waiting)} tasks wait'} for this one: {named}; "
            "remove the dependencies first",
            state=task.status,
            legal=[TaskStatus.COMPLETED],
            dependents=[str(other.id) for other in waiting],
        )


def _changed(task: Task, change: Literal["added", "removed"], ids: Sequence[UUID]) -> TaskDependenciesChanged:
    about = {"company": task.company_id, "task_id": task.id, "title": task.title}
    return TaskDependenciesChanged(**about, change=change, depends_on=list(ids))


def _released(task: Task, done: UUID) -> TaskReleased:
    return TaskReleased(
        company=task.company_id, task_id=task.id, title=task.title, completed_task_id=done, starting=is_due(task)
    )
