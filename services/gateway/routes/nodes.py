"""Nodes of a run: their states and outputs."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends

from contracts.executor import GetNode, ListNodes, NodeDetail, NodeStatus
from services.gateway.deps import DeskDep, Filter, PartsDep
from services.gateway.paging import Paging, paged
from services.gateway.problems import describe
from services.gateway.running import node_out
from services.gateway.schemas import ArtifactPage, NodePage

router = APIRouter(tags=["nodes"])
PageDep = Annotated[Paging, Depends(paged("created_at"))]


@router.get("/runs/{run_id}/nodes", operation_id="list_nodes", responses=describe(404))
async def list_nodes(
    desk: DeskDep,
    page: PageDep,
    run_id: UUID,
    status: NodeStatus | None = None,
    key: Filter = None,
    title_contains: Filter = None,
    role: Filter = None,
    checksum: Filter = None,
) -> NodePage:
    found = await desk.ask(
        ListNodes(
            run_id=run_id,
            status=status,
            key=key,
            title_contains=title_contains,
            role=role,
            checksum=checksum,
            **page.bounds,
        )
    )
    return page.of(NodePage, [node_out(node) for node in found.items], found.total)


@router.get("/nodes/{node_id}", operation_id="get_node", responses=describe(404))
async def get_node(desk: DeskDep, parts: PartsDep, node_id: UUID) -> NodeDetail:
    """With its whole output, also when that lies in the object store."""
    node = await desk.ask(GetNode(node_id=node_id))
    if node.output is not None or node.output_ref is None:
        return node
    output = await parts.blobs.get(node.output_ref)
    return node.model_copy(update={"output": output.decode("utf-8", "replace")})


@router.get("/nodes/{node_id}/artifacts", operation_id="list_node_artifacts", responses=describe(404))
async def list_node_artifacts(
    desk: DeskDep, page: PageDep, node_id: UUID, type: Filter = None, name_contains: Filter = None
) -> ArtifactPage:
    """Empty: nothing makes artifacts yet."""
    await desk.ask(GetNode(node_id=node_id))
    return page.of(ArtifactPage, [], 0)
