"""Runs of a task: one more of its plan, one more that keeps what is done, and those there have been."""

from __future__ import annotations

import asyncio
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response

from contracts.executor import ListRuns
from contracts.planner import GetTask, StartTask
from contracts.task_control import RetryTask
from services.gateway.deps import CommandIdDep, DeskDep
from services.gateway.paging import Paging, paged
from services.gateway.problems import describe
from services.gateway.schemas import Accepted, RunPage
from services.gateway.standing import accepted

router = APIRouter(prefix="/tasks/{task_id}", tags=["tasks"])
PageDep = Annotated[Paging, Depends(paged("created_at"))]


@router.post("/run", status_code=202, responses=describe(404, 409))
async def run_task(desk: DeskDep, task_id: UUID, command_id: CommandIdDep, response: Response) -> Accepted:
    """409 while a run is active (`details.run_id`), without a ready plan, and while flags or other tasks are in the way."""
    started = await desk.ask(StartTask(command_id=command_id, task_id=task_id))
    return accepted(desk, started.run_id, started.task_id, response)


@router.post("/retry", status_code=202, responses=describe(404, 409))
async def retry_task(
    desk: DeskDep,
    task_id: UUID,
    command_id: CommandIdDep,
    response: Response,
    fresh: Annotated[bool, Query(description="reuse nothing of the earlier run")] = False,
) -> Accepted:
    """A new run of a task whose latest one has ended. Finished nodes whose inputs did not change keep their results."""
    started = await desk.ask(RetryTask(command_id=command_id, task_id=task_id, fresh=fresh))
    return accepted(desk, started.run_id, started.task_id, response)


@router.get("/runs", responses=describe(404))
async def list_task_runs(desk: DeskDep, page: PageDep, task_id: UUID) -> RunPage:
    _, found = await asyncio.gather(
        desk.ask(GetTask(task_id=task_id)), desk.ask(ListRuns(task_id=task_id, **page.bounds))
    )
    return page.of(RunPage, found.items, found.total)
