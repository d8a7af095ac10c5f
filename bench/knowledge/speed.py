"""Search in a large library, without HTTP: the SQL of the product beside the study's, and what graphs miss."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import numpy as np

from bench.figures import quantile
from bench.knowledge import store
from bench.knowledge.library import Library
from chassis.context import Context
from chassis.postgres import Pool, create_reading_pool
from contracts.knowledge import Embedder, Search
from services.rag.domain.question import idf, terms_of
from services.rag.domain.rights import Who
from services.rag.handlers.searching import Searching
from services.rag.settings import RagSettings
from services.rag.store.index import dense, lexeme_of
from services.rag.store.search import SETTINGS, Leg, SearchStore

DEPTH, PER_LEG = 10, 50
EXACT: int = RagSettings.model_fields["exact"].default
PRUNED_TO = 6  # terms, the rarest, that lead to candidates in a large scope: as the study advises
NO_WORSE = 1.3  # times what the study's statement takes
ALIKE = 1e-4  # of a cosine: what rounding makes of it


@dataclass(frozen=True, slots=True)
class Question:
    text: str
    vector: Sequence[float]


@dataclass(frozen=True, slots=True)
class Shelf:
    """A library in the database."""

    library: Library
    spaces: Sequence[UUID]
    numbers: Sequence[int]
    rows: Mapping[UUID, int]  # of chunks
    url: str

    def asked_for(self, scope: Sequence[int]) -> list[UUID]:
        return [self.spaces[space] for space in scope]


@dataclass(slots=True)
class Speed:
    """Of one scope, in seconds: all SQL of a search, the statement that searches, and the study's."""

    whole: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)
    study: list[float] = field(default_factory=list)
    paths: set[str] = field(default_factory=set)

    @property
    def p95(self) -> float:
        """Of the statement that searches, in milliseconds."""
        return quantile(self.ours, 0.95) * 1000

    @property
    def of_study(self) -> float:
        return quantile(self.study, 0.95) * 1000

    @property
    def against_study(self) -> float:
        return self.p95 / self.of_study

    def shown(self) -> tuple[str, str, str]:
        """All statements, the one that searches, the study's."""
        return _p(self.whole), _p(self.ours), _p(self.study)

    def __str__(self) -> str:
        whole, ours, study = self.shown()
        return f"{ours} ms, the study's {study} ms, all statements {whole} ms"


def _p(seconds: Sequence[float]) -> str:
    return " / ".join(f"{quantile(seconds, q) * 1000:.1f}" for q in (0.5, 0.95))


class Timed:
    """A pool that adds up the seconds which its answers take, and those of the statement that searches."""

    def __init__(self, pool: Pool) -> None:
        self._pool, self.whole, self.searching = pool, 0.0, 0.0

    async def fetch(self, *given: Any) -> Any:
        return await self._counted(self._pool.fetch, given)

    async def fetchval(self, *given: Any) -> Any:
        return await self._counted(self._pool.fetchval, given)

    async def _counted(self, call: Any, given: Any) -> Any:
        began = time.perf_counter()
        try:
            return await call(*given)
        finally:
            took = time.perf_counter() - began
            self.whole += took
            self.searching += took * (given[0].split(None, 1)[0] == "with")


class Known:
    """Vectors of questions that were made before."""

    def __init__(self, questions: Sequence[Question]) -> None:
        self._vectors = {question.text: question.vector for question in questions}

    async def vector(self, embedder: Embedder, question: str, _: object) -> Sequence[float]:
        return self._vectors[question]


async def against_study(shelf: Shelf, questions: Sequence[Question]) -> dict[str, Speed]:
    """Both answer each question in turn, and who begins changes."""
    found = {}
    ours = await create_reading_pool(shelf.url, "rag", size=2, **SETTINGS)
    theirs = await create_reading_pool(shelf.url, "rag", size=2, **store.STUDY_SETTINGS)
    async with ours, theirs:
        timed = Timed(ours)
        searching = Searching(timed, Known(questions), exact=EXACT)  # type: ignore[arg-type]
        for name, scopes in shelf.library.scopes().items():
            speed = found[name] = Speed()
            for at, question in enumerate((*questions[:10], *questions)):  # ten to get warm
                scope = scopes[at % len(scopes)]
                calls = [_ours(speed, shelf, searching, timed, scope, question)]
                calls.append(_study(speed, shelf, theirs, scope, question))
                for call in calls if at % 2 else reversed(calls):
                    await call
            del speed.ours[:10], speed.study[:10], speed.whole[:10]
            print(f"  search SQL, scope {name}, p50 / p95: {speed}", flush=True)
    return found


async def _ours(
    speed: Speed, shelf: Shelf, searching: Searching, timed: Timed, scope: Sequence[int], question: Question
) -> None:
    """All of its statements: whose spaces and how many chunks have each term, whether there is a graph, the search."""
    timed.whole = timed.searching = 0.0
    ask = Search(query=question.text, space_ids=shelf.asked_for(scope), limit=DEPTH)
    answer = await searching.search(ask, Context())
    speed.whole.append(timed.whole)
    speed.ours.append(timed.searching)
    speed.paths.add(answer.receipt.path)


async def _study(speed: Speed, shelf: Shelf, pool: Pool, scope: Sequence[int], question: Question) -> None:
    numbers = [shelf.numbers[space] for space in scope]
    chunks = sum(len(shelf.library.spaces[space].rows) for space in scope)
    terms = terms_of(question.text, {shelf.library.spaces[space].language for space in scope})
    asked = await SearchStore(pool).asked(store.COMPANY, shelf.asked_for(scope), Who.of(None), terms.values())
    counts = sum((Counter(space.having) for space in asked), Counter[int]())
    known = sorted((counts[place], stem) for stem, place in terms.items() if counts.get(place))
    weights = {terms[stem]: idf(count, chunks) for count, stem in known}
    leading = [stem for _, stem in known][: PRUNED_TO if chunks > EXACT else None]
    words = f"({_any(leading)}) & ({_any([lexeme_of(number) for number in numbers])})" if leading else "'#'"
    began = time.perf_counter()
    weights = dict(sorted(weights.items()))
    await store.studied(pool, numbers, dense(question.vector), words, weights, graph=chunks > EXACT)
    speed.study.append(time.perf_counter() - began)


def _any(lexemes: Sequence[str]) -> str:
    return " | ".join("'" + lexeme.replace("\\", "\\\\").replace("'", "''") + "'" for lexeme in lexemes)


@dataclass(frozen=True, slots=True)
class Recall:
    """Of the ten nearest vectors, how many are found; and the seconds of that."""

    mean: float
    seconds: Sequence[float]

    def __str__(self) -> str:
        return f"{self.mean:.3f} ({_p(self.seconds)} ms)"


async def recall(shelf: Shelf, questions: Sequence[Question], name: str, **settings: str) -> Recall:
    """Of the vectors' leg as the product searches a scope of this share, with these settings instead of its own."""
    scopes, shares, seconds = shelf.library.scopes()[name], [], []
    async with await create_reading_pool(shelf.url, "rag", size=1, **SETTINGS | settings) as pool:
        searches = SearchStore(pool)
        for at, question in enumerate(questions):
            scope = scopes[at % len(scopes)]
            numbers = [shelf.numbers[space] for space in scope]
            is_large = sum(len(shelf.library.spaces[space].rows) for space in scope) > EXACT
            ask = Search(query=question.text, space_ids=shelf.asked_for(scope))
            leg = Leg(Embedder(), numbers, question.vector, is_large)
            began = time.perf_counter()
            found = await searches.search(ask, Who.of(None), numbers, [leg], None, PER_LEG)
            seconds.append(time.perf_counter() - began)
            best = sorted(found.candidates, key=lambda each: -each.cosine)[:DEPTH]
            shares.append(share_found(shelf.library, scope, question.vector, [shelf.rows[c.chunk_id] for c in best]))
    return Recall(float(np.mean(shares)), seconds)


def share_found(library: Library, scope: Sequence[int], vector: Sequence[float], rows: Sequence[int]) -> float:
    """Of the ten nearest in the scope, by comparing all of them."""
    question = np.array(vector, np.float32)
    nearest = np.sort(library.vectors[library.rows_in(scope)] @ question)[::-1][:DEPTH]
    near = [row for row in dict.fromkeys(rows) if float(library.vectors[row] @ question) >= nearest[-1] - ALIKE]
    return min(len(near), DEPTH) / len(nearest)
