"""Runs: found, shown with their graph, controlled."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from contracts.errors import Code, Rejection
from contracts.executor import ControlRun, GetRun, ListRuns, RunAction, RunControlled, RunStatus
from services.gateway.deps import CallerDep, CommandIdDep, DeskDep, Filter, PartsDep, StartedDep
from services.gateway.paging import Paging, paged
from services.gateway.problems import describe
from services.gateway.running import run_out, summary_out
from services.gateway.schemas import RunOut, RunPage, RunPatch, RunSummaryOut

router = APIRouter(prefix="/runs", tags=["runs"])
PageDep = Annotated[Paging, Depends(paged("created_at"))]
Count = Annotated[int, Query(ge=0, le=200)]


@router.get("", operation_id="list_runs")
async def list_runs(
    desk: DeskDep,
    page: PageDep,
    started: StartedDep,
    status: RunStatus | None = None,
    title_contains: Filter = None,
    task_id: UUID | None = None,
) -> RunPage:
    found = await desk.ask(
        ListRuns(
            status=status,
            title_contains=title_contains,
            started_from=started[0],
            started_to=started[1],
            task_id=task_id,
            **page.bounds,
        )
    )
    return page.of(RunPage, found.items, found.total)


@router.get("/{run_id}", operation_id="get_run", responses=describe(404))
async def get_run(
    desk: DeskDep,
    parts: PartsDep,
    caller: CallerDep,
    run_id: UUID,
    include_events: Count = 0,
    include_nodes: bool = True,
    include_artifacts: Count = 0,
) -> RunOut:
    """The newest `include_events` events come in the order in which they happened."""
    detail = await desk.ask(GetRun(run_id=run_id, include_nodes=include_nodes))
    return await run_out(parts.feed, caller.company, detail, events=include_events, zone=desk.zone)


@router.get("/{run_id}/summary", operation_id="get_run_summary", responses=describe(404))
async def get_run_summary(desk: DeskDep, parts: PartsDep, caller: CallerDep, run_id: UUID) -> RunSummaryOut:
    detail = await desk.ask(GetRun(run_id=run_id, include_nodes=False))
    return summary_out(detail.summary, await parts.feed.count_of_run(caller.company, run_id))


@router.patch("/{run_id}", operation_id="control_run", responses=describe(404, 409))
async def control_run(desk: DeskDep, run_id: UUID, body: RunPatch, command_id: CommandIdDep) -> RunControlled:
    """`status` is what was asked for; `actual` follows as soon as the run's executor has seen it."""
    if body.action not in set(RunAction):
        raise Rejection(Code.BAD_REQUEST, f"unknown action {body.action!r}; use one of {', '.join(RunAction)}")
    return await desk.ask(ControlRun(command_id=command_id, run_id=run_id, action=RunAction(body.action)))
