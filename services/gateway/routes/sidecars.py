"""The accounts of model calls: those of a run, and that of a node, as they were written."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from contracts.sidecar import Sidecar
from contracts.sidecar_requests import LARGEST, GetSidecar, ListSidecars
from services.gateway.deps import DeskDep
from services.gateway.paging import PageOf, Paging, paged
from services.gateway.problems import describe
from services.gateway.schemas import SidecarPage

router = APIRouter(tags=["sidecars"])
PageDep = Annotated[Paging, Depends(paged("created_at"))]
Number = Annotated[int | None, Query(ge=1, le=LARGEST)]

# The schema is told and not enforced here: a sidecar that is not valid must be seen as it is.


@router.get("/runs/{run_id}/sidecars", response_model=None, responses={200: {"model": SidecarPage}, **describe(404)})
async def list_sidecars(
    desk: DeskDep, page: PageDep, run_id: UUID, node_id: UUID | None = None, attempt: Number = None
) -> PageOf[dict[str, Any]]:
    """One per model call, in the order in which they were accounted for. Their times stay as they were written."""
    found = await desk.ask(ListSidecars(run_id=run_id, node_id=node_id, attempt=attempt, **page.bounds))
    return page.of(PageOf[dict[str, Any]], [item.document for item in found.items], found.total)


@router.get("/nodes/{node_id}/sidecar", response_model=None, responses={200: {"model": Sidecar}, **describe(404)})
async def get_sidecar(desk: DeskDep, node_id: UUID, attempt: Number = None, call: Number = None) -> dict[str, Any]:
    """Of the node's latest model call; a node that has called none has none (404)."""
    return (await desk.ask(GetSidecar(node_id=node_id, attempt=attempt, call=call))).document
