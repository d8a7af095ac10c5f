"""All SQL of the planner: tasks, plans with their versions, assignments, and the runs that were asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg

from chassis.postgres import Connection, Pool
from contracts.errors import Code, Rejection
from contracts.executor import StartRun
from contracts.page import Page
from contracts.plan import Assignment, PlanGraph
from contracts.planner import ListPlanVersions, ListTasks, Plan, PlanStatus, PlanVersion, Task, TaskStatus
from services.planner.domain.assignment import of_this_graph
from services.planner.domain.ordering import ordering
from services.planner.domain.task import RunState, TaskRun

TASK = """
select t.id, t.company_id, t.project_id, t.title, t.description, t.status, t.archived, t.ad_hoc, t.gate,
       p.id as plan_id, t.run_id, t.created_at, t.updated_at, t.launch_run_id, t.job_id,
       t.deleted_at is not null as deleted
from tasks t left join plans p on p.task_id = t.id
"""
MATCHING = """
where t.company_id = $1 and t.deleted_at is null and ($2::text is null or t.status = $2)
  and ($3::text is null or t.title ilike $3) and ($4 or not t.archived)
"""
COUNT_TASKS = f"select count(*) from tasks t {MATCHING}"
PLAN = """
select p.id, p.id as plan_id, p.task_id, p.status, p.version, v.graph, v.errors, p.created_at, p.updated_at
from plans p join plan_versions v on v.plan_id = p.id and v.version = p.version
"""
VERSION = "select plan_id, version, status, graph, errors, origin, answer, created_at from plan_versions"
RUN = "select run_id, ordinal, state, sequence, dry_run from task_runs"

TASK_ORDER: Mapping[str, str] = {
    "created_at": "t.created_at",
    "updated_at": "t.updated_at",
    "title": "lower(t.title)",
    "status": "t.status",
    "archived": "t.archived",
    "id": "t.id",
}
VERSION_ORDER: Mapping[str, str] = {"version": "version", "created_at": "created_at", "status": "status"}


def _order(order_by: str | None, columns: Mapping[str, str], default: str, tie: str) -> str:
    """Only our own column names get into the statement. The tie-breaker keeps pages apart."""
    field, descending = ordering(order_by, columns.keys(), default)
    return f"{columns[field]} {'desc' if descending else 'asc'} nulls last, {tie}"


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A task with what only the planner itself needs to know."""

    task: Task
    launch_run_id: UUID | None
    job_id: UUID | None
    deleted: bool


@dataclass(frozen=True, slots=True)
class NewVersion:
    """What there is to be kept of a plan that somebody gave or drafted."""

    status: PlanStatus
    graph: PlanGraph | None
    origin: str
    errors: Sequence[str] = ()
    answer: str | None = None
    job_id: UUID | None = None


def _task(row: asyncpg.Record | None) -> TaskRow | None:
    if row is None:
        return None
    return TaskRow(Task.model_validate(dict(row)), row["launch_run_id"], row["job_id"], row["deleted"])


def _run(row: asyncpg.Record | None) -> TaskRun | None:
    return None if row is None else TaskRun(**{**row, "state": RunState(row["state"])})


def _like(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


class Store:
    """Statements on one connection, or on the pool for reads that need no transaction."""

    def __init__(self, db: Connection | Pool) -> None:
        self._db = db

    # tasks

    async def has_project(self, company: str, project: str) -> bool:
        found = "select exists (select from projects where company_id = $1 and id = $2)"
        return bool(await self._db.fetchval(found, company, project))

    async def add_task(self, task: Task, *, launch_run_id: UUID | None = None, dedupe_key: str | None = None) -> bool:
        """False when a living run has this dedupe key. Raises Rejection(title_taken)."""
        try:
            tag = await self._db.execute(
                """
                insert into tasks (id, company_id, project_id, title, description, status, ad_hoc, gate,
                                   created_at, updated_at, launch_run_id, dedupe_key)
                values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10, $11)
                on conflict (company_id, dedupe_key) where dedupe_key is not null do nothing
                """,
                *(task.id, task.company_id, task.project_id, task.title, task.description, task.status, task.ad_hoc),
                *(task.gate, task.created_at, launch_run_id, dedupe_key),
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
        row = await self._db.fetchrow(f"{TASK} where t.company_id = $1 and t.id = $2 for update of t", company, id)
        found = _task(row)
        return None if found is None or (found.deleted and not deleted_too) else found

    async def lock_task_by_key(self, company: str, dedupe_key: str) -> TaskRow | None:
        return _task(
            await self._db.fetchrow(
                f"{TASK} where t.company_id = $1 and t.dedupe_key = $2 for update of t", company, dedupe_key
            )
        )

    async def tasks(self, ask: ListTasks) -> Page[Task]:
        title = None if ask.title_contains is None else _like(ask.title_contains)
        filters = (ask.company, ask.status, title, ask.include_archived)
        rows = await self._db.fetch(
            f"{TASK} {MATCHING} order by {_order(ask.order_by, TASK_ORDER, '-created_at', 't.id')} limit $5 offset $6",
            *(*filters, ask.limit, ask.offset),
        )
        total = await self._db.fetchval(COUNT_TASKS, *filters)
        return Page[Task](items=[Task.model_validate(dict(row)) for row in rows], total=total)

    async def edit_task(self, id: UUID, title: str, description: str | None, archived: bool) -> None:
        """Raises Rejection(title_taken)."""
        try:
            await self._db.execute(
                """
                update tasks set title = $2, description = $3, archived = $4, updated_at = clock_timestamp()
                where id = $1
                """,
                *(id, title, description, archived),
            )
        except asyncpg.UniqueViolationError as error:
            raise self._title_taken(title) from error

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

    async def show_run(self, id: UUID, status: TaskStatus, run_id: UUID, *, canceled: bool) -> None:
        await self._db.execute(
            """
            update tasks set status = $2, run_id = $3, cancel_requested = $4, updated_at = clock_timestamp()
            where id = $1
            """,
            *(id, status, run_id, canceled),
        )

    # plans

    async def plan(self, company: str, id: UUID) -> Plan | None:
        row = await self._db.fetchrow(f"{PLAN} where p.company_id = $1 and p.id = $2", company, id)
        return None if row is None else await self._whole(row)

    async def lock_plan_task(self, company: str, plan_id: UUID) -> TaskRow | None:
        """The task a plan belongs to: whoever changes a plan holds its task."""
        row = await self._db.fetchrow(
            f"{TASK} where t.company_id = $1 and p.id = $2 and t.deleted_at is null for update of t", company, plan_id
        )
        return _task(row)

    async def plan_of(self, task_id: UUID) -> Plan | None:
        row = await self._db.fetchrow(f"{PLAN} where p.task_id = $1", task_id)
        return None if row is None else await self._whole(row)

    async def _whole(self, row: asyncpg.Record) -> Plan:
        graph = row["graph"] and PlanGraph.model_validate(row["graph"])
        return Plan(**row, assignments=of_this_graph(graph, await self.assignments(row["id"])))

    async def add_version(self, company: str, task_id: UUID, plan_id: UUID, new: NewVersion) -> tuple[UUID, int]:
        """The plan's id and the number of the version. `plan_id` is used when the task has no plan yet."""
        row = await self._db.fetchrow(
            """
            insert into plans as p (id, company_id, task_id, status, version) values ($1, $2, $3, $4, 1)
            on conflict (task_id) do update
                set status = excluded.status, version = p.version + 1, updated_at = clock_timestamp()
            returning id, version
            """,
            *(plan_id, company, task_id, new.status),
        )
        assert row is not None, "the statement inserts or updates"
        await self._db.execute(
            """
            insert into plan_versions (plan_id, version, company_id, status, graph, errors, origin, answer, job_id)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
            """,
            *(row["id"], row["version"], company, new.status, new.graph and new.graph.model_dump(mode="json")),
            *(list(new.errors), new.origin, new.answer, new.job_id),
        )
        return row["id"], row["version"]

    async def judge_plan(self, plan_id: UUID, status: PlanStatus, errors: Sequence[str]) -> None:
        await self._db.execute(
            """
            with judged as (
                update plans set status = $2, updated_at = clock_timestamp() where id = $1 returning id, version
            )
            update plan_versions v set status = $2, errors = $3
            from judged where v.plan_id = judged.id and v.version = judged.version
            """,
            *(plan_id, status, list(errors)),
        )

    async def version(self, company: str, plan_id: UUID, version: int) -> PlanVersion | None:
        row = await self._db.fetchrow(
            f"{VERSION} where company_id = $1 and plan_id = $2 and version = $3", company, plan_id, version
        )
        return None if row is None else PlanVersion(**row)

    async def version_of_job(self, job_id: UUID) -> PlanVersion | None:
        row = await self._db.fetchrow(f"{VERSION} where job_id = $1", job_id)
        return None if row is None else PlanVersion(**row)

    async def versions(self, ask: ListPlanVersions) -> Page[PlanVersion]:
        rows = await self._db.fetch(
            f"""
            {VERSION} where company_id = $1 and plan_id = $2
            order by {_order(ask.order_by, VERSION_ORDER, "version", "version")} limit $3 offset $4
            """,
            *(ask.company, ask.plan_id, ask.limit, ask.offset),
        )
        count = "select count(*) from plan_versions where company_id = $1 and plan_id = $2"
        total = await self._db.fetchval(count, ask.company, ask.plan_id)
        return Page[PlanVersion](items=[PlanVersion(**row) for row in rows], total=total)

    # assignments

    async def assignments(self, plan_id: UUID) -> list[Assignment]:
        rows = await self._db.fetch(
            """
            select node_id, role, agent_id, llm_backend, llm_model, params from assignments
            where plan_id = $1 order by node_id
            """,
            plan_id,
        )
        return [Assignment(**row) for row in rows]

    async def assign(self, company: str, plan_id: UUID, items: Sequence[Assignment]) -> int:
        """How many of them are new; the others replaced what was there."""
        columns: list[list[Any]] = [
            [item.node_id for item in items],
            [item.role for item in items],
            [item.agent_id for item in items],
            [item.llm_backend for item in items],
            [item.llm_model for item in items],
            [item.params for item in items],
        ]
        rows = await self._db.fetch(
            """
            insert into assignments (plan_id, company_id, node_id, role, agent_id, llm_backend, llm_model, params)
            select $1, $2, i.* from unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::jsonb[]) i
            on conflict (plan_id, node_id) do update
                set role = excluded.role, agent_id = excluded.agent_id, llm_backend = excluded.llm_backend,
                    llm_model = excluded.llm_model, params = excluded.params, updated_at = clock_timestamp()
            returning xmax = 0 as created
            """,
            *(plan_id, company, *columns),
        )
        return sum(row["created"] for row in rows)

    # runs

    async def ask_for_run(self, task_id: UUID, run: StartRun) -> None:
        """Note that the executor is to be asked; noting it twice changes nothing."""
        await self._db.execute(
            """
            insert into task_runs (run_id, task_id, company_id, dry_run, request) values ($1, $2, $3, $4, $5)
            on conflict (run_id) do nothing
            """,
            *(run.run_id, task_id, run.company, run.dry_run, run.model_dump(mode="json")),
        )

    async def ask_again(self, run_id: UUID) -> StartRun | None:
        """What the executor is to be asked, as the task's newest run; None when it has said yes already."""
        request = await self._db.fetchval(
            """
            update task_runs set ordinal = default, state = 'asked', asked_at = clock_timestamp()
            where run_id = $1 and state in ('asked', 'refused') returning request
            """,
            run_id,
        )
        return None if request is None else StartRun.model_validate(request)

    async def refuse_run(self, run_id: UUID) -> bool:
        """False when the run's facts have shown meanwhile that it was accepted after all."""
        refuse = "update task_runs set state = 'refused' where run_id = $1 and state = 'asked' returning true"
        return bool(await self._db.fetchval(refuse, run_id))

    async def run_told_of(self, company: str, task_id: UUID, run_id: UUID) -> TaskRun:
        """The run a fact speaks of. One that we do not know was started, so it is noted as the task's newest."""
        await self._db.execute(
            """
            insert into task_runs (run_id, task_id, company_id) values ($1, $2, $3) on conflict (run_id) do nothing
            """,
            *(run_id, task_id, company),
        )
        found = await self.run(run_id)
        assert found is not None, "it was inserted above"
        return found

    async def run(self, run_id: UUID) -> TaskRun | None:
        return _run(await self._db.fetchrow(f"{RUN} where run_id = $1 for update", run_id))

    async def latest_run(self, task_id: UUID) -> TaskRun | None:
        return _run(
            await self._db.fetchrow(
                f"{RUN} where task_id = $1 and state not in ('asked', 'refused') order by ordinal desc limit 1", task_id
            )
        )

    async def save_run(self, run: TaskRun) -> None:
        await self._db.execute(
            "update task_runs set state = $2, sequence = $3 where run_id = $1", run.run_id, run.state, run.sequence
        )

    async def is_being_started(self, task_id: UUID, within: float) -> bool:
        """Whether the executor was asked within the last seconds and its answer is not noted yet."""
        return bool(
            await self._db.fetchval(
                """
                select exists (select from task_runs where task_id = $1 and state = 'asked'
                               and asked_at > clock_timestamp() - make_interval(secs => $2))
                """,
                *(task_id, within),
            )
        )
