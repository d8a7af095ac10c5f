"""The SQL of tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from chassis.postgres import Connection, Pool
from contracts.errors import Code, Rejection
from contracts.executor import ControlMode
from contracts.page import Page
from contracts.planner import ListTasks, Task, TaskControl, TaskStatus
from contracts.task_control import TaskAction
from services.planner.domain.control import Order
from services.planner.domain.launch import Terms
from services.planner.store.order import order

TASK = """
select t.id, t.company_id, t.project_id, t.title, t.description, t.status, t.archived, t.ad_hoc, t.gate,
       p.id as plan_id, t.run_id, t.created_at, t.updated_at, t.launch_run_id, t.job_id,
       t.deleted_at is not null as deleted, t.auto_start, t.job_type, t.payload, t.assignee, t.priority,
       t.pause_requested, t.cancel_requested, t.control_asked_at, t.control_asked_by,
       t.order_id, t.order_action, t.order_mode, t.order_by, t.launch, t.waiting,
       array(select d.depends_on from task_dependencies d join tasks x on x.id = d.depends_on
             where d.task_id = t.id and x.status <> 'completed' order by d.created_at, d.depends_on) as waits_for
from tasks t left join plans p on p.task_id = t.id
"""
MATCHING = """
where t.company_id = $1 and t.deleted_at is null and ($2::text is null or t.status = $2)
  and ($3::text is null or t.title ilike $3) and ($4 or not t.archived) and ($5::text is null or t.project_id = $5)
"""
COUNT_TASKS = f"select count(*) from tasks t {MATCHING}"
TASK_ORDER: Mapping[str, str] = {
    "created_at": "t.created_at",
    "updated_at": "t.updated_at",
    "title": "lower(t.title)",
    "status": "t.status",
    "archived": "t.archived",
    "id": "t.id",
}


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A task with what only the planner itself needs to know."""

    task: Task
    launch_run_id: UUID | None
    job_id: UUID | None
    deleted: bool
    order: Order | None  # the latest one that concerns its runs
    launch: Terms | None  # of the run it was created for
    waiting: bool  # nobody has been told yet that it waits for nothing more


def shown(row: asyncpg.Record) -> Task:
    control = TaskControl(
        pause=row["pause_requested"],
        cancel=row["cancel_requested"],
        asked_at=row["control_asked_at"],
        asked_by=row["control_asked_by"],
    )
    return Task.model_validate({**row, "control": control})


def _task(row: asyncpg.Record | None) -> TaskRow | None:
    if row is None:
        return None
    return TaskRow(
        task=shown(row),
        launch_run_id=row["launch_run_id"],
        job_id=row["job_id"],
        deleted=row["deleted"],
        order=_order(row),
        launch=row["launch"] and Terms.model_validate(row["launch"]),
        waiting=row["waiting"],
    )


def _order(row: asyncpg.Record) -> Order | None:
    if row["order_id"] is None:
        return None
    return Order(row["order_id"], TaskAction(row["order_action"]), ControlMode(row["order_mode"]), row["order_by"])


def _like(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


class TaskStore:
    """Statements on one connection, or on the pool for reads that need no transaction."""

    def __init__(self, db: Connection | Pool) -> None:
        self._db = db

    async def add_task(
        self,
        task: Task,
        *,
        launch_run_id: UUID | None = None,
        launch: Terms | None = None,
        dedupe_key: str | None = None,
    ) -> bool:
        """False when a living run has this dedupe key. Raises Rejection(title_taken)."""
        try:
            tag = await self._db.execute(
                """
                insert into tasks (id, company_id, project_id, title, description, status, ad_hoc, gate,
                                   created_at, updated_at, launch_run_id, dedupe_key, launch, auto_start,
                                   job_type, payload, assignee, priority)
                values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10, $11, $12, $13, $14, $15, $16, $17)
                on conflict (company_id, dedupe_key) where dedupe_key is not null do nothing
                """,
                *(task.id, task.company_id, task.project_id, task.title, task.description, task.status, task.ad_hoc),
                *(task.gate, task.created_at, launch_run_id, dedupe_key, launch and launch.model_dump(mode="json")),
                *(task.auto_start, task.job_type, task.payload, task.assignee, task.priority),
            )
        except asyncpg.UniqueViolationError as error:
            raise self._title_taken(task.title) from error
        return bool(tag == "INSERT 0 1")

    @staticmethod
    def _title_taken(title: str) -> Rejection:
        return Rejection(
            Code.TITLE_TAKEN, f"this project has a task titled {title!r} already (upper and lower case count the same)"
        )

    async def task(self, company: str, id: UUID) -> TaskRow | None:
        return _task(
            await self._db.fetchrow(
                f"{TASK} where t.company_id = $1 and t.id = $2 and t.deleted_at is null", company, id
            )
        )

    async def lock_task(self, company: str, id: UUID, *, deleted_too: bool = False) -> TaskRow | None:
        """What is read after the lock was got is as the one who held it left it; a locking read alone would see the
        tables it joins as they were before."""
        await self._db.execute("select from tasks where company_id = $1 and id = $2 for update", company, id)
        found = _task(await self._db.fetchrow(f"{TASK} where t.company_id = $1 and t.id = $2", company, id))
        return None if found is None or (found.deleted and not deleted_too) else found

    async def lock_task_by_key(self, company: str, dedupe_key: str) -> TaskRow | None:
        id = await self._db.fetchval(
            "select id from tasks where company_id = $1 and dedupe_key = $2 for update", company, dedupe_key
        )
        return None if id is None else await self.lock_task(company, id)

    async def tasks(self, ask: ListTasks) -> Page[Task]:
        title = None if ask.title_contains is None else _like(ask.title_contains)
        filters = (ask.company, ask.status, title, ask.include_archived, ask.project)
        rows = await self._db.fetch(
            f"{TASK} {MATCHING} order by {order(ask.order_by, TASK_ORDER, '-created_at', 't.id')} limit $6 offset $7",
            *(*filters, ask.limit, ask.offset),
        )
        total = await self._db.fetchval(COUNT_TASKS, *filters)
        return Page[Task](items=[shown(row) for row in rows], total=total)

    async def edit_task(self, task: Task) -> None:
        """Raises Rejection(title_taken)."""
        try:
            await self._db.execute(
                """
                update tasks set title = $2, description = $3, archived = $4, job_type = $5, payload = $6, assignee = $7,
                    priority = $8, updated_at = clock_timestamp()
                where id = $1
                """,
                *(task.id, task.title, task.description, task.archived),
                *(task.job_type, task.payload, task.assignee, task.priority),
            )
        except asyncpg.UniqueViolationError as error:
            raise self._title_taken(task.title) from error

    async def delete_task(self, id: UUID) -> None:
        await self._db.execute(
            """
            update tasks set deleted_at = clock_timestamp(), updated_at = clock_timestamp(), dedupe_key = null
            where id = $1
            """,
            id,
        )

    async def move_task(self, id: UUID, status: TaskStatus) -> None:
        await self._db.execute("update tasks set status = $2, updated_at = clock_timestamp() where id = $1", id, status)

    async def set_job(self, id: UUID, job_id: UUID) -> None:
        await self._db.execute("update tasks set job_id = $2 where id = $1", id, job_id)

    async def release_key(self, id: UUID) -> None:
        """The request id of an ad-hoc task may start something new."""
        await self._db.execute("update tasks set dedupe_key = null where id = $1", id)

    async def show_run(self, id: UUID, status: TaskStatus, run_id: UUID) -> None:
        await self._db.execute(
            "update tasks set status = $2, run_id = $3, updated_at = clock_timestamp() where id = $1",
            *(id, status, run_id),
        )

    async def no_auto_start(self, id: UUID) -> None:
        """It was started, or never will be by itself."""
        await self._db.execute("update tasks set auto_start = false where id = $1", id)

    async def lock_plan_task(self, company: str, plan_id: UUID) -> TaskRow | None:
        """The task a plan belongs to: whoever changes a plan holds its task."""
        find = "select task_id from plans where company_id = $1 and id = $2"
        task_id = await self._db.fetchval(find, company, plan_id)
        return None if task_id is None else await self.lock_task(company, task_id)
