"""Retention of deliverables: what goes because newer versions have followed, shown before and recorded after."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends

from contracts.previews import ListRemovals, Sweep, SweepReport
from services.gateway.artifact_schemas import RemovalPage, SweepIn
from services.gateway.deps import AdminDep, CommandIdDep, DeskDep, OrderedByDep
from services.gateway.known import refuse_unknown_company
from services.gateway.paging import Paging, paged
from services.gateway.problems import describe

router = APIRouter(prefix="/deliverables", tags=["retention"])
PageDep = Annotated[Paging, Depends(paged("at"))]


@router.post("/sweep", responses=describe(403, 404))
async def sweep_deliverables(
    _: AdminDep, desk: DeskDep, by: OrderedByDep, command_id: CommandIdDep, body: SweepIn | None = None
) -> SweepReport:
    """Removes what is beyond what is kept, up to 1,000 items; says what it would with `dry_run`, which is the default.

    What is pinned, shared or referred to stays.
    """
    await refuse_unknown_company(desk)
    asked = body or SweepIn()
    return await desk.ask(Sweep(command_id=command_id, dry_run=asked.dry_run, task_id=asked.task_id, by=by))


@router.get("/removals", responses=describe(403, 404))
async def list_removals(_: AdminDep, desk: DeskDep, page: PageDep, task_id: UUID | None = None) -> RemovalPage:
    """What was removed, when, by whom and why; the newest first."""
    found = await desk.ask(ListRemovals(task_id=task_id, **page.bounds))
    if not found.total:
        await refuse_unknown_company(desk)
    return page.of(RemovalPage, found.items, found.total)
