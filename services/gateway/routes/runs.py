"""Runs: found, shown with their graph, controlled."""

from __future__ import annotations

import asyncio
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from contracts.executor import ControlMode, ControlRun, GetRun, ListRuns, RunAction, RunControlled, RunStatus
from contracts.run_control import ExplainWaiting, WaitingFor
from services.gateway.delivered import artifacts_of, artifacts_total
from services.gateway.deps import CommandIdDep, DeskDep, Filter, OrderedByDep, PartsDep, StartedDep
from services.gateway.judging import nothing_said, said_of
from services.gateway.known import refuse_unknown_company
from services.gateway.orders import ModeQuery, known_action
from services.gateway.paging import Paging, paged
from services.gateway.problems import describe
from services.gateway.running import Shown, run_out, summary_out
from services.gateway.schemas import RunOut, RunPage, RunPatch, RunSummaryOut

router = APIRouter(prefix="/runs", tags=["runs"])
PageDep = Annotated[Paging, Depends(paged("created_at"))]
Count = Annotated[int, Query(ge=0, le=200)]


@router.get("", responses=describe(404))
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
    if not found.total:
        await refuse_unknown_company(desk)
    return page.of(RunPage, found.items, found.total)


@router.get("/{run_id}", responses=describe(404))
async def get_run(
    desk: DeskDep,
    parts: PartsDep,
    run_id: UUID,
    include_events: Count = 0,
    include_nodes: bool = True,
    include_artifacts: Count = 0,
) -> RunOut:
    """The newest `include_events` events come in the order in which they happened, artifacts the newest first."""
    detail, said, artifacts, total = await asyncio.gather(
        desk.ask(GetRun(run_id=run_id, include_nodes=include_nodes)),
        said_of(desk, run_id=run_id) if include_nodes else nothing_said(),
        artifacts_of(desk, run_id=run_id, limit=include_artifacts),
        artifacts_total(desk, run_id),
    )
    known = Shown(said, artifacts, total)
    return await run_out(parts.feed, desk.company, detail, known, events=include_events, zone=desk.zone)


@router.get("/{run_id}/summary", responses=describe(404))
async def get_run_summary(desk: DeskDep, parts: PartsDep, run_id: UUID) -> RunSummaryOut:
    detail, delivered = await asyncio.gather(
        desk.ask(GetRun(run_id=run_id, include_nodes=False)), artifacts_total(desk, run_id)
    )
    return summary_out(detail.summary, await parts.feed.count_of_run(desk.company, run_id), delivered)


@router.patch("/{run_id}", responses=describe(404, 409))
async def control_run(
    desk: DeskDep, by: OrderedByDep, run_id: UUID, body: RunPatch, command_id: CommandIdDep, mode: ModeQuery = None
) -> RunControlled:
    """`status` is what was asked for; `actual` follows when the run's executor has seen it, and `control` says when."""
    action = known_action(RunAction, body.action)
    chosen = body.mode or mode or ControlMode.FINISH
    return await desk.ask(ControlRun(command_id=command_id, run_id=run_id, action=action, mode=chosen, by=by))


@router.post("/{run_id}/cancel", status_code=202, responses=describe(404, 409))
async def cancel_run(desk: DeskDep, by: OrderedByDep, run_id: UUID, command_id: CommandIdDep) -> RunControlled:
    """Calls that are under way are cut off; a run that waits for a slot is canceled without one."""
    return await desk.ask(ControlRun(command_id=command_id, run_id=run_id, action=RunAction.CANCEL, by=by))


@router.get("/{run_id}/waiting", responses=describe(404))
async def explain_waiting(desk: DeskDep, run_id: UUID) -> WaitingFor:
    """Everything of the run that is not moving: why, until when, and what will release it."""
    return await desk.ask(ExplainWaiting(run_id=run_id))
