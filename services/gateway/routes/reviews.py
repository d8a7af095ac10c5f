"""Reviews: what waits for a person's word, another attempt with guidance, and how attempts compare."""

from __future__ import annotations

import asyncio
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Response

from contracts.review import ListAttempts, ListHeld, NodeRerun, RerunNode
from services.gateway.deps import CommandIdDep, DeskDep, OrderedByDep
from services.gateway.domain.places import place
from services.gateway.judging import attempts_out, critique_of, verdicts_of
from services.gateway.known import refuse_unknown_company
from services.gateway.paging import Paging, paged
from services.gateway.problems import describe
from services.gateway.review_schemas import AttemptsOut, HeldPage, RerunIn

router = APIRouter(tags=["feedback"])
PageDep = Annotated[Paging, Depends(paged("since"))]


@router.get("/reviews", responses=describe(404))
async def list_reviews(desk: DeskDep, page: PageDep, run_id: UUID | None = None) -> HeldPage:
    """Nodes that wait for a person, the oldest first. Answer with POST /feedbacks and a score, or run them again."""
    found = await desk.ask(ListHeld(run_id=run_id, **page.bounds))
    if not found.total:
        await refuse_unknown_company(desk)
    return page.of(HeldPage, found.items, found.total)


@router.post("/nodes/{node_id}/rerun", status_code=202, responses=describe(404, 409))
async def rerun_node(
    desk: DeskDep,
    by: OrderedByDep,
    node_id: UUID,
    command_id: CommandIdDep,
    response: Response,
    body: RerunIn | None = None,
) -> NodeRerun:
    """A new attempt that is told the critique in force and your instructions. What depends on the node runs again, nothing
    else does. A run that has ended goes on (`reopened`); 409 while another run of its task is active.
    """
    asked, critique = dict(body or RerunIn()), await critique_of(desk, node_id)
    answer = await desk.ask(RerunNode(command_id=command_id, node_id=node_id, by=by, critique=critique, **asked))
    response.headers["Location"] = place(desk.company, f"/nodes/{node_id}/attempts")
    return answer


@router.get("/nodes/{node_id}/attempts", responses=describe(404))
async def list_attempts(desk: DeskDep, node_id: UUID) -> AttemptsOut:
    """Every attempt with what it was told, its output, score and cost; `diff` compares it with the one before."""
    found, said = await asyncio.gather(desk.ask(ListAttempts(node_id=node_id)), verdicts_of(desk, node_id))
    return attempts_out(found, said)
