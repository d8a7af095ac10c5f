"""What is the executor asked for when a task starts, and under which ids?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid5

from pydantic import Field

from contracts.errors import Code, Rejection
from contracts.executor import StartRun
from contracts.plan import PlanGraph, Strict
from contracts.planner import Plan, PlanStatus, RunOptions, Task
from services.planner.domain.assignment import freeze
from services.planner.domain.task import address


class Terms(Strict):
    """What holds for a run beside its plan; travels in the job that drafts the plan first."""

    run_id: UUID
    options: RunOptions = RunOptions()
    params: dict[str, Any] = Field(default_factory=dict)
    meta: dict[str, Any] = Field(default_factory=dict)


def task_id_of(command_id: UUID) -> UUID:
    return UUID(bytes=uuid5(command_id, "task").bytes, version=4)


def run_id_of(command_id: UUID) -> UUID:
    """The same order asks for the same run. Version 4, as the sidecar format demands it."""
    return UUID(bytes=uuid5(command_id, "run").bytes, version=4)


def start_order_id(run_id: UUID) -> UUID:
    """The command id under which the executor is asked for a run, however often."""
    return uuid5(run_id, "run.start")


def another(
    run_id: UUID, launched: Terms | None, *, dry_run: bool = False, request_id: str = "", origin: str = "start"
) -> Terms:
    """What holds for a further run of a task: all that it was launched with, if it was."""
    options = (launched.options if launched else RunOptions()).model_copy(update={"dry_run": dry_run})
    params = launched.params if launched else {}
    return Terms(run_id=run_id, options=options, params=params, meta=meta_of(request_id, origin))


def start_run(task: Task, found: Plan | None, terms: Terms, reuse_run_id: UUID | None = None) -> StartRun:
    """The plan as it is now: what becomes of it later does not touch this run. Raises Rejection without a ready one."""
    plan, graph = _ready(found, task)
    options = terms.options
    nodes = freeze(
        graph, plan.assignments, llm_backend=options.llm_backend, llm_model=options.llm_model, params=terms.params
    )
    return StartRun(
        company=task.company_id,
        command_id=start_order_id(terms.run_id),
        run_id=terms.run_id,
        project=task.project_id,
        task_id=task.id,
        plan_id=plan.id,
        plan_version=plan.version,
        title=task.title,
        nodes=nodes,
        gate=task.gate or options.gate,
        dry_run=options.dry_run,
        timeout_s=options.timeout_s,
        node_timeout_s=options.node_timeout_s,
        max_attempts=options.max_attempts,
        meta=terms.meta,
        reuse_run_id=reuse_run_id,
    )


def _ready(plan: Plan | None, task: Task) -> tuple[Plan, PlanGraph]:
    if plan is None:
        draft_it = f"POST {address(task.company_id, task.id, '/plan')}"
        raise Rejection(
            Code.PLAN_MISSING, f"this task has no plan yet: draft one with {draft_it}", task_id=str(task.id)
        )
    if plan.status is not PlanStatus.READY or plan.graph is None:
        raise Rejection(
            Code.PLAN_NOT_READY,
            f"the plan of this task is {plan.status}; draft it again, or validate it",
            task_id=str(task.id),
            plan_id=str(plan.id),
            status=plan.status,
            errors=plan.errors,
        )
    return plan, plan.graph


def meta_of(request_id: str, origin: str, extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {"request_id": request_id, "origin": origin, **(extra or {})}
