"""How a task stands: what its planner says, with what the executor knows of its runs, as far as that can be asked."""

from __future__ import annotations

import asyncio
from typing import TypeVar
from uuid import UUID

from pydantic import BaseModel
from starlette.responses import Response

from contracts.errors import Code, Rejection, RetryLater
from contracts.executor import GetRun, Run, RunDetail, RunStatus
from contracts.message import Request
from contracts.planner import Task
from contracts.run_control import GetRuntime, Runtime
from services.gateway.asking import Desk
from services.gateway.domain.places import place
from services.gateway.schemas import Accepted, RuntimeOut, TaskOut, TaskStatusOut, WorkerOut

A = TypeVar("A", bound=BaseModel)

ACTIVE = frozenset({RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.PAUSED})
OF_THE_EXECUTOR = ["run", "nodes", "attempts", "worker", "error", "cost_usd", "runtime"]


def accepted(desk: Desk, run_id: UUID, task_id: UUID, response: Response) -> Accepted:
    location = response.headers["Location"] = place(desk.company, f"/runs/{run_id}")
    return Accepted(run_id=run_id, task_id=task_id, location=location)


async def task_out(desk: Desk, task: Task) -> TaskOut:
    try:
        runtime = await _found(desk, GetRuntime(run_id=task.run_id)) if task.run_id else None
    except RetryLater:
        return TaskOut(**dict(task), runtime=None, degraded=["runtime"])
    return TaskOut(**dict(task), runtime=_block(task, runtime), degraded=[])


async def task_status(desk: Desk, task: Task) -> TaskStatusOut:
    try:
        detail, runtime = await _execution(desk, task)
    except RetryLater:
        nothing = dict.fromkeys(OF_THE_EXECUTOR)
        return TaskStatusOut(task=task, degraded=OF_THE_EXECUTOR, **nothing)
    return TaskStatusOut(
        task=task,
        run=_active(detail),
        nodes=runtime.nodes_by_status if runtime else {},
        attempts=runtime.attempts if runtime else 0,
        worker=_worker(runtime),
        error=runtime.error if runtime else None,
        cost_usd=runtime.cost_usd if runtime else "0",
        estimated_calls=runtime.estimated_calls if runtime else 0,
        unpriced_calls=runtime.unpriced_calls if runtime else 0,
        runtime=_block(task, runtime),
        degraded=[],
    )


async def _execution(desk: Desk, task: Task) -> tuple[RunDetail | None, Runtime | None]:
    if task.run_id is None:
        return None, None
    return await asyncio.gather(
        _found(desk, GetRun(run_id=task.run_id, include_nodes=False)), _found(desk, GetRuntime(run_id=task.run_id))
    )


async def _found(desk: Desk, request: Request[A]) -> A | None:
    """None for a run that its owner has forgotten because of its age."""
    try:
        return await desk.ask(request)
    except Rejection as rejection:
        if rejection.failure.code is Code.NOT_FOUND:
            return None
        raise


def _active(detail: RunDetail | None) -> Run | None:
    return detail.run if detail is not None and detail.run.status in ACTIVE else None


def _worker(runtime: Runtime | None) -> WorkerOut | None:
    if runtime is None or runtime.worker_id is None:
        return None
    return WorkerOut(id=runtime.worker_id, host=runtime.worker_host, lease_until=runtime.lease_until)


def _block(task: Task, runtime: Runtime | None) -> RuntimeOut:
    if runtime is None:
        return RuntimeOut(job_id=task.run_id)
    return RuntimeOut(
        job_id=runtime.run_id,
        started_at=runtime.started_at,
        finished_at=runtime.ended_at,
        error=runtime.error,
        attempts=runtime.attempts,
        worker_id=runtime.worker_id,
    )
