"""The timeline: pages of events."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from services.gateway.deps import CallerDep, DeskDep, Filter, HappenedDep, Parts, PartsDep
from services.gateway.domain.times import shown_in
from services.gateway.known import refuse_unknown_run
from services.gateway.news import event_of
from services.gateway.paging import Paging, paged
from services.gateway.problems import describe
from services.gateway.schemas import EventPage
from services.gateway.store import EventFilter

router = APIRouter(tags=["events"])
PageDep = Annotated[Paging, Depends(paged("cursor"))]


def _wanted(
    happened: HappenedDep,
    run_id: Annotated[UUID | None, Query()] = None,
    node_id: Annotated[UUID | None, Query()] = None,
    level: Annotated[str | None, Query(max_length=81, examples=["NODE_COMPLETED"])] = None,
    q: Annotated[str | None, Query(max_length=200, description="text in the message, in any case")] = None,
    request_id: Filter = None,
) -> EventFilter:
    level = level.upper() if level else None
    return EventFilter(run_id, node_id, level, q, ts_from=happened[0], ts_to=happened[1], request_id=request_id)


def _wanted_of_run(
    run_id: UUID,
    happened: HappenedDep,
    node_id: Annotated[UUID | None, Query()] = None,
    level: Annotated[str | None, Query(max_length=81, examples=["NODE_COMPLETED"])] = None,
    q: Annotated[str | None, Query(max_length=200, description="text in the message, in any case")] = None,
    request_id: Filter = None,
) -> EventFilter:
    return _wanted(happened, run_id, node_id, level, q, request_id)


async def _page(desk: DeskDep, parts: Parts, caller: CallerDep, page: Paging, wanted: EventFilter) -> EventPage:
    head = await parts.feed.head(caller.company)
    found, total = await parts.feed.page(caller.company, wanted, **page.bounds)
    return page.of(EventPage, shown_in([event_of(told, head.epoch) for told in found], desk.zone), total)


@router.get("/events", operation_id="list_events")
async def list_events(
    desk: DeskDep,
    parts: PartsDep,
    caller: CallerDep,
    page: PageDep,
    wanted: Annotated[EventFilter, Depends(_wanted)],
) -> EventPage:
    """Oldest first; `order_by` is timestamp, level or cursor."""
    return await _page(desk, parts, caller, page, wanted)


@router.get("/runs/{run_id}/events", operation_id="list_run_events", responses=describe(404))
async def list_run_events(
    desk: DeskDep,
    parts: PartsDep,
    caller: CallerDep,
    page: PageDep,
    wanted: Annotated[EventFilter, Depends(_wanted_of_run)],
    run_id: UUID,
) -> EventPage:
    await refuse_unknown_run(desk, parts.feed, caller.company, run_id)
    return await _page(desk, parts, caller, page, wanted)
