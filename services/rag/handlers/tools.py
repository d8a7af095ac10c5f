"""The tool `search_knowledge`: an agent at work finds what it may read, and what it was shown is kept with its attempt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from chassis.bus import Bus
from chassis.context import Context
from chassis.postgres import Pool
from chassis.unit_of_work import UnitOfWork
from contracts.errors import Code, Rejection
from contracts.executor import RunNode
from contracts.knowledge import MOST_SPACES, Search, Searcher
from contracts.retrievals import GetRetrievals, Retrievals, SearchKnowledge
from contracts.review import GetReviewCase, ReviewCase
from contracts.tool import ToolResult
from services.rag.domain.fencing import kept, told
from services.rag.domain.spending import for_attempt
from services.rag.handlers.searching import Searching
from services.rag.store.retrievals import RetrievalStore

PASSAGES = 8


class Tools:
    def __init__(self, uow: UnitOfWork, pool: Pool, bus: Bus, searching: Searching) -> None:
        self._uow = uow
        self._pool = pool
        self._bus = bus
        self._searching = searching

    async def retrievals(self, request: GetRetrievals, _: Context) -> Retrievals:
        return await RetrievalStore(self._pool).of(request)

    async def search(self, request: SearchKnowledge, context: Context) -> ToolResult:
        """Raises Rejection(not_found) or (bad_request). What was found is settled with the first answer."""
        where = request.context
        case = await self._bus.ask(
            GetReviewCase(company=request.company, node_id=where.node_id, run_id=where.run_id, attempt=where.attempt),
            context,
        )
        wanted = Search(
            company=request.company,
            query=_question(request.arguments.query),
            space_ids=within(request.arguments.space_ids, spaces_of(case.spec)),
            limit=PASSAGES,
            searcher=_searcher(case),
        )
        findings = await self._searching.paid(wanted, for_attempt(request.company, case, where))
        async with self._uow.order(request, context) as tx:
            store = RetrievalStore(tx.conn)
            shown = findings.model_copy(update={"items": await store.still_there(kept(findings.items))})
            first = await store.note(request.company, where, wanted.query, shown, request.command_id)
            return tx.answer(ToolResult(text=told(shown, first)))


def spaces_of(node: RunNode) -> list[UUID] | None:
    """What the assignment allows; None: all. Raises Rejection(bad_request): a list that cannot be read allows nothing."""
    given: Any = node.params.get("space_ids")
    if given is None:
        return None
    try:
        return [UUID(str(each)) for each in ([given] if isinstance(given, str) else given)]
    except (TypeError, ValueError):
        raise Rejection(
            Code.BAD_REQUEST, "this node's params.space_ids is no list of ids of spaces; a person has to mend the plan"
        ) from None


def within(asked: Sequence[UUID] | None, allowed: Sequence[UUID] | None) -> list[UUID] | None:
    """None: all that may be read. An empty list: nothing."""
    if asked is None or allowed is None:
        found = asked if allowed is None else allowed
        return None if found is None else _few(found)
    return _few([each for each in asked if each in set(allowed)])


def _few(spaces: Sequence[UUID]) -> list[UUID]:
    """Raises Rejection(bad_request)."""
    if len(spaces) > MOST_SPACES:
        raise Rejection(Code.BAD_REQUEST, f"{len(spaces)} spaces are too many for one search; name up to {MOST_SPACES}")
    return list(spaces)


def _searcher(case: ReviewCase) -> Searcher:
    """Nothing of it comes from the node's params: whoever writes a plan must not be able to widen rights."""
    return Searcher(agent_id=case.spec.agent_id or None, role=case.spec.role or None, project=case.project_id)


def _question(query: str) -> str:
    """Raises Rejection(bad_request)."""
    if not (question := query.replace("\0", " ").strip()):
        raise Rejection(Code.BAD_REQUEST, "the query is empty; say in words what to look for")
    return question
