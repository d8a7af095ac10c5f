"""The timeline: pages of events."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from services.gateway.deps import DeskDep, Filter, HappenedDep, Parts, PartsDep
from services.gateway.domain.times import shown_in
from services.gateway.known import refuse_unknown_company, refuse_unknown_run, refuse_unknown_task
from services.gateway.news import event_of
from services.gateway.paging import Paging, paged
from services.gateway.problems import describe
from services.gateway.schemas import EventPage
from services.gateway.store import EventFilter

router = APIRouter(tags=["events"])
PageDep = Annotated[Paging, Depends(paged("cursor"))]


def _wanted(
    happened: HappenedDep,
    node_id: Annotated[UUID | None, Query()] = None,
    level: Annotated[str | None, Query(max_length=81, examples=["NODE_COMPLETED"])] = None,
    q: Annotated[str | None, Query(max_length=200, description="text in the message, in any case")] = None,
    request_id: Filter = None,
) -> EventFilter:
    return EventFilter(
        node_id=node_id,
        level=level.upper() if level else None,
        q=q,
        ts_from=happened[0],
        ts_to=happened[1],
        request_id=request_id,
    )


WantedDep = Annotated[EventFilter, Depends(_wanted)]


async def _page(desk: DeskDep, parts: Parts, page: Paging, wanted: EventFilter) -> EventPage:
    head = await parts.feed.head(desk.company)
    found, total = await parts.feed.page(desk.company, wanted, **page.bounds)
    return page.of(EventPage, shown_in([event_of(told, head.epoch) for told in found], desk.zone), total)


@router.get("/events", responses=describe(404))
async def list_events(
    desk: DeskDep, parts: PartsDep, page: PageDep, wanted: WantedDep, run_id: UUID | None = None
) -> EventPage:
    """Oldest first; `order_by` is timestamp, level or cursor."""
    found = await _page(desk, parts, page, replace(wanted, run_id=run_id))
    if not found.total:
        await refuse_unknown_company(desk)
    return found


@router.get("/runs/{run_id}/events", responses=describe(404))
async def list_run_events(desk: DeskDep, parts: PartsDep, page: PageDep, wanted: WantedDep, run_id: UUID) -> EventPage:
    await refuse_unknown_run(desk, parts.feed, run_id)
    return await _page(desk, parts, page, replace(wanted, run_id=run_id))


@router.get("/tasks/{task_id}/events", responses=describe(404))
async def list_task_events(
    desk: DeskDep, parts: PartsDep, page: PageDep, wanted: WantedDep, task_id: UUID
) -> EventPage:
    """What was asked of the task and what became of it, with everything that its runs told."""
    await refuse_unknown_task(desk, parts.feed, task_id)
    return await _page(desk, parts, page, replace(wanted, task_id=task_id))
