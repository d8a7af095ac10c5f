"""What the nodes of a run were shown of the company's documents, and what of it their results cite."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from contracts.executor import GetNode
from contracts.retrievals import GetRetrievals, Retrievals
from services.gateway.citing import citations_of
from services.gateway.deps import DeskDep, PartsDep
from services.gateway.knowledge_schemas import Citations
from services.gateway.known import refuse_unknown_run
from services.gateway.problems import describe

router = APIRouter(tags=["knowledge"])


@router.get("/runs/{run_id}/citations", responses=describe(404))
async def list_citations(desk: DeskDep, parts: PartsDep, run_id: UUID) -> Citations:
    """Where outputs say `[n]`: document, version, page, offsets and the passage itself."""
    found = await citations_of(desk, parts.blobs, run_id)
    if not found.items:
        await refuse_unknown_run(desk, parts.feed, run_id)
    return found


@router.get("/runs/{run_id}/retrievals", responses=describe(404))
async def list_run_retrievals(desk: DeskDep, parts: PartsDep, run_id: UUID) -> Retrievals:
    """Each use of `search_knowledge`, with what was found and the receipt of the search; the 200 newest."""
    found = await desk.ask(GetRetrievals(run_id=run_id))
    if not found.items:
        await refuse_unknown_run(desk, parts.feed, run_id)
    return found


@router.get("/nodes/{node_id}/retrievals", responses=describe(404))
async def list_node_retrievals(
    desk: DeskDep, node_id: UUID, attempt: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None
) -> Retrievals:
    node = await desk.ask(GetNode(node_id=node_id))
    return await desk.ask(GetRetrievals(run_id=node.run_id, node_id=node_id, attempt=attempt))
