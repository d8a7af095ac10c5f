"""Search in what the company knows, and how much that is."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from contracts.knowledge import Findings, GetStats, KnowledgeStats, Search, Searcher
from services.gateway.deps import CallerDep, DeskDep
from services.gateway.domain import roles
from services.gateway.domain.roles import Role
from services.gateway.knowledge_schemas import SearchIn
from services.gateway.known import refuse_unknown_company
from services.gateway.problems import describe

router = APIRouter(prefix="/knowledge", tags=["knowledge"])
AsAgent = Annotated[
    str | None,
    Query(min_length=1, max_length=200, description="what would this agent find? Wins over the body's; admins only"),
]


@router.post("/search", responses=describe(404))
async def search_knowledge(desk: DeskDep, caller: CallerDep, body: SearchIn, as_agent: AsAgent = None) -> Findings:
    """Passages by meaning, words, parts of words and title, the best first; a viewer may search.

    `receipt` says what was searched, and how many chunks of it the rights of `as_agent` removed; what a provider takes
    for its question is charged to that agent's budgets. `degraded` says why there was no search by meaning.
    """
    searcher = _searcher(as_agent or body.as_agent)
    if searcher is not None:
        roles.require(caller.role, Role.ADMIN)
    found = await desk.ask(Search(**body.model_dump(exclude={"as_agent"}), searcher=searcher))
    if not found.receipt.spaces:
        await refuse_unknown_company(desk)
    return found


def _searcher(agent: str | Searcher | None) -> Searcher | None:
    return Searcher(agent_id=agent) if isinstance(agent, str) else agent


@router.get("/stats", responses=describe(404))
async def get_knowledge_stats(desk: DeskDep) -> KnowledgeStats:
    """Documents by state, and chunks, of the company and of each space.

    `embedding` says what the vectors of providers have cost: those of documents, and those of questions.
    """
    found = await desk.ask(GetStats())
    if not found.spaces:
        await refuse_unknown_company(desk)
    return found
