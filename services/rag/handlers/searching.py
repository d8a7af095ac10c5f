"""The search: rights and spaces first, then one statement for all legs, then the ranking, and a receipt of what was done."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

import structlog
from prometheus_client import Histogram

from chassis.context import Context
from chassis.postgres import Pool
from contracts.knowledge import Embedder, Findings, Found, Receipt, Search
from services.rag.domain.question import Lexical, all_places_of, lexical, terms_of
from services.rag.domain.questions import NoVectors, Questions
from services.rag.domain.ranking import Ranked, rank
from services.rag.domain.rights import Who
from services.rag.domain.spending import Buyer, for_question
from services.rag.store.index import lexeme_of
from services.rag.store.search import Asked, Leg, Searched, SearchStore

log = structlog.get_logger(__name__)

PLANS = 3  # of a search, while spaces change between its plan and its statement
CANDIDATES = 50  # per leg, and as many as are asked for
SECONDS = Histogram(
    "rag_search_seconds", "Searches by path", ["path"], buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5)
)


class Searching:
    """`exact`: chunks in scope up to which every vector is compared."""

    def __init__(self, pool: Pool, questions: Questions, *, exact: int) -> None:
        self._store = SearchStore(pool)
        self._questions = questions
        self._exact = exact

    async def search(self, request: Search, _: Context) -> Findings:
        return await self.paid(request, for_question(request.company, request.searcher))

    async def paid(self, request: Search, buyer: Buyer) -> Findings:
        began, who = time.perf_counter(), Who.of(request.searcher)
        for _ in range(PLANS):
            asked = await self._store.asked(request.company, request.space_ids, who, all_places_of(request.query))
            spaces = [space for space in asked if space.is_open and space.chunks]
            legs, degraded = await self._legs(request, spaces, buyer)
            words = _words(request.query, spaces)
            found = await self._found(request, who, spaces, legs, words)
            if {space.id for space in spaces} == set(found.spaces):
                break  # no space has got another index meanwhile, or was closed
        ranked = await asyncio.to_thread(rank, request.query, found.candidates, request.limit, with_vectors=bool(legs))
        path = _path(legs, words)
        took = time.perf_counter() - began
        SECONDS.labels(path).observe(took)
        receipt = Receipt(
            spaces=found.spaces,
            chunks=found.chunks,
            removed_by_acl=found.removed,
            path=path,
            languages=sorted({space.language for space in spaces}),
            took_ms=round(took * 1000, 2),
        )
        return Findings(items=[_shown(each) for each in ranked], receipt=receipt, degraded=degraded)

    async def _found(
        self, request: Search, who: Who, spaces: Sequence[Asked], legs: list[Leg], words: Lexical | None
    ) -> Searched:
        """Where a graph gives fewer than it was asked for, all are compared after all."""
        planned, per_leg = [space.number for space in spaces], max(CANDIDATES, request.limit)
        found = await self._store.search(request, who, planned, legs, words, per_leg)
        if not found.short:
            return found
        legs[:] = [Leg(leg.embedder, leg.spaces, leg.vector, graph=False) for leg in legs]
        return await self._store.search(request, who, planned, legs, words, per_leg)

    async def _legs(self, request: Search, spaces: Sequence[Asked], buyer: Buyer) -> tuple[list[Leg], str | None]:
        """One for each model, and why there is none for one of them."""
        by_model: dict[Embedder, list[Asked]] = {}
        for space in spaces:
            by_model.setdefault(space.embedder, []).append(space)
        legs, reasons = list[Leg](), list[str]()
        for embedder, of in by_model.items():
            try:
                vector = await self._questions.vector(embedder, request.query, buyer)
            except NoVectors as why:
                reasons.append(str(why))
                continue
            many = sum(space.chunks for space in of) > self._exact
            graph = many and await self._store.has_graph(request.company, embedder.dimension)
            legs.append(Leg(embedder, [space.number for space in of], vector, graph))
        return legs, "; ".join(dict.fromkeys(reasons)) or None


def _words(question: str, spaces: Sequence[Asked]) -> Lexical | None:
    counts = Counter[int]()
    for space in spaces:
        counts.update(space.having)
    terms = terms_of(question, {space.language for space in spaces})
    return lexical(terms, counts, sum(space.chunks for space in spaces), [lexeme_of(space.number) for space in spaces])


def _path(legs: Sequence[Leg], words: Lexical | None) -> str:
    if not legs:
        return "none" if words is None else "lexical"
    return "hnsw" if any(leg.graph for leg in legs) else "exact"


def _shown(ranked: Ranked) -> Found:
    it = ranked.candidate
    return Found(
        document=Found.Of(id=it.document_id, external_id=it.external_id, title=it.title_text, version=it.version),
        space_id=it.space_id,
        chunk_id=it.chunk_id,
        text=it.body,
        header=it.header,
        score=ranked.score,
        scores=ranked.scores,
        offsets=(it.start, it.stop),
        page=it.page,
    )
