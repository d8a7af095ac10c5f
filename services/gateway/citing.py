"""What a run's results cite: the numbers in its nodes' outputs, beside the passages that the nodes were shown."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from uuid import UUID

from chassis.blobs import Blobs
from contracts.executor import GetNode, NodeDetail
from contracts.retrievals import MOST_AT_ONCE, GetRetrievals, Passage, Retrieval
from services.gateway.asking import Desk
from services.gateway.domain.citations import numbers
from services.gateway.knowledge_schemas import Citation, Citations

AT_ONCE = 8  # nodes that are asked for

Shown = dict[tuple[UUID, int], dict[int, Passage]]  # by node and attempt


async def whole(desk: Desk, blobs: Blobs, node_id: UUID) -> NodeDetail:
    """With its output, also when that lies in the object store."""
    node = await desk.ask(GetNode(node_id=node_id))
    if node.output is None and node.output_ref is not None:
        output = await blobs.get(node.output_ref)
        return node.model_copy(update={"output": output.decode("utf-8", "replace")})
    return node


async def _retrievals(desk: Desk, run_id: UUID) -> AsyncIterator[Retrieval]:
    """All of them, the newest part first."""
    offset, items = 0, list[Retrieval]()
    while not offset or len(items) == MOST_AT_ONCE:
        items = (await desk.ask(GetRetrievals(run_id=run_id, offset=offset))).items
        offset += MOST_AT_ONCE
        for each in items:
            yield each


async def citations_of(desk: Desk, blobs: Blobs, run_id: UUID) -> Citations:
    """Of the latest attempt of each node that was shown passages."""
    shown: Shown = defaultdict(dict)
    async for retrieval in _retrievals(desk, run_id):
        shown[retrieval.node_id, retrieval.attempt].update({each.n: each for each in retrieval.passages})
    gate = asyncio.Semaphore(AT_ONCE)

    async def asked(node_id: UUID) -> NodeDetail:
        async with gate:
            return await whole(desk, blobs, node_id)

    nodes = await asyncio.gather(*(asked(id) for id in dict.fromkeys(node_id for node_id, _ in shown)))
    items, unknown = list[Citation](), 0
    for node in nodes:
        passages = shown.get((node.id, node.attempt), {})
        cited = numbers(node.output or "") if passages else []
        items += [Citation.of(node.id, node.key, node.attempt, passages[n]) for n in cited if n in passages]
        unknown += sum(n not in passages for n in cited)
    return Citations(items=items, unknown=unknown)
