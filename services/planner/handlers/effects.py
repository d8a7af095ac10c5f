"""What changes together, whoever asks for it: a task's status, its plan's versions, and the facts that tell of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from uuid import UUID, uuid4

from chassis.jobs import Jobs
from chassis.unit_of_work import Tx
from contracts.errors import Code, Rejection
from contracts.plan import Gate
from contracts.planner import (
    CreateTask,
    LaunchTask,
    PlanRejected,
    PlanStatus,
    PlanWasDrafted,
    Task,
    TaskStatus,
)
from contracts.task_control import TaskRetried
from services.planner.domain.drafted import Draft
from services.planner.domain.facts import now_is, shortened
from services.planner.domain.launch import task_id_of
from services.planner.domain.task import OVER, RunState, TaskRun, after_planning, launch_is_pending, moved, shown
from services.planner.handlers.intents import carry_order, release_dependents, start_if_due
from services.planner.store.companies import CompanyStore
from services.planner.store.controls import ControlStore
from services.planner.store.plans import NewVersion, PlanStore
from services.planner.store.runs import RunStore
from services.planner.store.tasks import TaskRow, TaskStore

OF_A_DRAFT = {"auto_start", "job_type", "payload", "assignee", "priority"}


def unknown_task(id: UUID) -> Rejection:
    return Rejection(Code.NOT_FOUND, f"there is no task {id}")


async def locked(tx: Tx, company: str, id: UUID) -> TaskRow:
    row = await TaskStore(tx.conn).lock_task(company, id)
    if row is None:
        raise unknown_task(id)
    return row


async def move(tx: Tx, task: Task, status: TaskStatus, reason: str = "") -> None:
    if status is not task.status:
        await TaskStore(tx.conn).move_task(task.id, moved(task.status, status))
        tx.publish(now_is(task, status, task.run_id, reason))


async def add_version(tx: Tx, task: Task, new: NewVersion, draft: Draft | None = None) -> tuple[UUID, int]:
    """The plan's next version, and what it means for the task."""
    plan_id, version = await PlanStore(tx.conn).add_version(task.company_id, task.id, uuid4(), new)
    about = {"company": task.company_id, "task_id": task.id, "plan_id": plan_id, "version": version}
    if new.status is PlanStatus.INVALID:
        tx.publish(PlanRejected(**about, errors=shortened(new.errors)))
    else:
        nodes = len(new.graph.plan) if new.graph else 0
        spent = {"tokens": draft.tokens, "cost_usd": draft.cost_usd} if draft else {"cost_usd": "0"}
        tx.publish(PlanWasDrafted(**about, nodes=nodes, origin=new.origin, **spent))
    if launch_is_pending(task) and new.status is PlanStatus.INVALID:
        await fail_launch(tx, task, "; ".join(shortened(new.errors)))
    else:
        await move(tx, task, after_planning(task.status, new.status))
    return plan_id, version


async def fail_launch(tx: Tx, task: Task, reason: str) -> None:
    """An ad-hoc task whose run will not come to be."""
    await move(tx, task, TaskStatus.FAILED, reason)
    await TaskStore(tx.conn).release_key(task.id)
    await TaskStore(tx.conn).no_auto_start(task.id)


async def confirm(tx: Tx, jobs: Jobs, row: TaskRow, run: TaskRun) -> TaskRow:
    """It is known now that the executor has this run. What was asked of the task meanwhile reaches it too."""
    runs, controls, task = RunStore(tx.conn), ControlStore(tx.conn), row.task
    if not run.dry_run or run.run_id == row.launch_run_id:
        await TaskStore(tx.conn).no_auto_start(task.id)
        task = task.model_copy(update={"auto_start": False})
    earlier, fresh = await runs.retry_of(run.run_id)
    if earlier is not None:
        about = {"company": task.company_id, "task_id": task.id, "title": task.title}
        tx.publish(TaskRetried(**about, run_id=run.run_id, earlier_run_id=earlier, fresh=fresh))
    if row.order is None:
        return replace(row, task=task)
    if not (task.control.pause or task.control.cancel):
        await controls.note_told(row.order.id, [run.run_id])
    elif await controls.untold(task.id, row.order.id):
        await carry_order(tx, jobs, task)
    return replace(row, task=task)


async def show_run(tx: Tx, jobs: Jobs, row: TaskRow, run: TaskRun, reason: str = "") -> None:
    """Let the task show the state of its latest run, and set off what that makes possible."""
    tasks, plans, task = TaskStore(tx.conn), PlanStore(tx.conn), row.task
    plan = await plans.plan_of(task.id)
    status = shown(run, plan.status if plan else None)
    await tasks.show_run(task.id, status, run.run_id)
    if run.state in OVER:
        await tasks.release_key(task.id)
    if row.deleted or (status is task.status and run.run_id == task.run_id):
        return
    tx.publish(now_is(task, status, run.run_id, reason, canceled=run.state is RunState.CANCELED))
    if status is TaskStatus.COMPLETED:
        await release_dependents(tx, jobs, task, run)
    await start_if_due(tx, jobs, task.model_copy(update={"status": status}))


def new_task(
    request: CreateTask | LaunchTask, description: str | None, gate: Gate | None, now: datetime, *, ad_hoc: bool = False
) -> Task:
    """Its id follows from the order's."""
    return Task(
        id=task_id_of(request.command_id),
        company_id=request.company,
        project_id=request.project,
        title=request.title,
        description=description,
        status=TaskStatus.DRAFT,
        archived=False,
        ad_hoc=ad_hoc,
        gate=gate,
        plan_id=None,
        run_id=None,
        created_at=now,
        updated_at=now,
        **(request.model_dump(include=OF_A_DRAFT) if isinstance(request, CreateTask) else {}),
    )


async def known_project(tx: Tx, company: str, project: str) -> None:
    companies = CompanyStore(tx.conn)
    if not await companies.has_project(company, project):
        raise unknown_place(company, project if await companies.has_company(company) else None)


def unknown_place(company: str, project: str | None) -> Rejection:
    """`project` is None when the company itself is not there."""
    if project is None:
        return Rejection(Code.NOT_FOUND, f"there is no company {company!r}; create it first with POST /companies")
    path = f"/companies/{company}/projects"
    return Rejection(
        Code.NOT_FOUND, f"there is no project {project!r} in the company {company!r}; create it first with POST {path}"
    )
