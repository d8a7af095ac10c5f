"""Nodes of a run: their states and outputs, and orders to them."""

from __future__ import annotations

import asyncio
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends

from contracts.executor import ControlMode, ListNodes, NodeStatus
from contracts.run_control import ControlNode, NodeAction, NodeControlled
from services.gateway.citing import whole
from services.gateway.deps import CommandIdDep, DeskDep, Filter, OrderedByDep, PartsDep
from services.gateway.judging import degraded, nothing_said, of_node, said_of, said_of_one
from services.gateway.orders import ModeQuery, known_action
from services.gateway.paging import Paging, paged
from services.gateway.problems import describe
from services.gateway.review_schemas import NodeDetailOut
from services.gateway.running import node_out
from services.gateway.schemas import NodePage, NodePatch

router = APIRouter(tags=["nodes"])
PageDep = Annotated[Paging, Depends(paged("created_at"))]


@router.get("/runs/{run_id}/nodes", responses=describe(404))
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
    said = await said_of(desk, node_ids=[node.id for node in found.items]) if found.items else await nothing_said()
    shown = page.of(NodePage, [node_out(node, said) for node in found.items], found.total)
    return shown.model_copy(update={"degraded": degraded(said)})


@router.get("/nodes/{node_id}", responses=describe(404))
async def get_node(desk: DeskDep, parts: PartsDep, node_id: UUID) -> NodeDetailOut:
    """With its whole output, also when that lies in the object store."""
    node, said = await asyncio.gather(whole(desk, parts.blobs, node_id), said_of_one(desk, node_id))
    return NodeDetailOut(**dict(node), feedbacks=of_node(said, node_id), degraded=degraded(said))


@router.patch("/nodes/{node_id}", responses=describe(404, 409))
async def control_node(
    desk: DeskDep, by: OrderedByDep, node_id: UUID, body: NodePatch, command_id: CommandIdDep, mode: ModeQuery = None
) -> NodeControlled:
    """`status_after` is what was asked for; `actual` follows as soon as the run's executor has seen it.

    Overriding or skipping a node of a run that has ended lets the run go on (`reopened`).
    """
    return await desk.ask(
        ControlNode(
            command_id=command_id,
            node_id=node_id,
            action=known_action(NodeAction, body.action),
            mode=body.mode or mode or ControlMode.FINISH,
            prompt=body.prompt,
            params=body.params,
            by=by,
        )
    )
