"""What changes together, whoever asks for it: a task's status, its plan's versions, and the facts that tell of them."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID, uuid4

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
from services.planner.domain.drafted import Draft
from services.planner.domain.facts import now_is, shortened
from services.planner.domain.launch import task_id_of
from services.planner.domain.task import OVER, RunState, TaskRun, after_planning, launch_is_pending, moved, shown
from services.planner.store import NewVersion, Store, TaskRow


def unknown_task(id: UUID) -> Rejection:
    return Rejection(Code.NOT_FOUND, f"there is no task {id}")


async def locked(store: Store, company: str, id: UUID) -> TaskRow:
    row = await store.lock_task(company, id)
    if row is None:
        raise unknown_task(id)
    return row


async def move(tx: Tx, task: Task, status: TaskStatus, reason: str = "") -> None:
    if status is not task.status:
        await Store(tx.conn).move_task(task.id, moved(task.status, status))
        tx.publish(now_is(task, status, task.run_id, reason))


async def add_version(tx: Tx, task: Task, new: NewVersion, draft: Draft | None = None) -> tuple[UUID, int]:
    """The plan's next version, and what it means for the task."""
    plan_id, version = await Store(tx.conn).add_version(task.company_id, task.id, uuid4(), new)
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
    await Store(tx.conn).release_key(task.id)


async def show_run(tx: Tx, row: TaskRow, run: TaskRun, reason: str = "") -> None:
    """Let the task show the state of its latest run."""
    store, task = Store(tx.conn), row.task
    plan = await store.plan_of(task.id)
    status = shown(run, plan.status if plan else None)
    await store.show_run(task.id, status, run.run_id, canceled=run.state is RunState.CANCELED)
    if run.state in OVER:
        await store.release_key(task.id)
    if not row.deleted and (status is not task.status or run.run_id != task.run_id):
        tx.publish(now_is(task, status, run.run_id, reason))


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
    )


async def known_project(store: Store, company: str, project: str) -> None:
    if not await store.has_project(company, project):
        raise Rejection(Code.NOT_FOUND, f"there is no project {project!r} in a company {company!r}")
