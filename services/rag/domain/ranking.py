"""Which candidates answer a question: four likenesses added up, few chunks of each document, neighbours as one passage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from services.rag.domain.grams import likeness

PER_DOCUMENT = 3  # chunks
#: of `cosine`, `bm25`, `grams`, `title`; found on collections in two languages
WEIGHTS = {"cosine": 0.45, "bm25": 0.2, "grams": 0.25, "title": 0.1}
WITHOUT_VECTORS = {"cosine": 0.0, "bm25": 0.5, "grams": 0.5, "title": 0.0}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A chunk that a leg of the search has found. `cosine` and `title` are 0 where there is no vector."""

    chunk_id: UUID
    document_id: UUID
    space_id: UUID
    external_id: str | None
    title_text: str
    version: int
    ord: int
    start: int
    stop: int
    page: int | None
    header: str | None
    body: str
    gap: str  # between it and the next chunk
    folded: str
    cosine: float
    bm25: float
    title: float


@dataclass(frozen=True, slots=True)
class Ranked:
    candidate: Candidate
    score: float
    scores: dict[str, float]


def rank(question: str, candidates: Sequence[Candidate], limit: int, *, with_vectors: bool) -> list[Ranked]:
    """The best first; equals in a fixed order."""
    ranked = sorted(
        _scored(question, candidates, WEIGHTS if with_vectors else WITHOUT_VECTORS),
        key=lambda each: (-each.score, each.candidate.document_id, each.candidate.ord),
    )
    kept, taken = list[Ranked](), Counter[UUID]()
    for each in ranked:
        taken[each.candidate.document_id] += 1
        if taken[each.candidate.document_id] <= PER_DOCUMENT:
            kept.append(each)
    return _joined(kept)[:limit]


def _scored(question: str, candidates: Sequence[Candidate], weights: dict[str, float]) -> list[Ranked]:
    grams = likeness(question, [each.folded for each in candidates])
    most_grams = max(float(grams.max(initial=0.0)), 1e-9)
    most_bm25 = max((each.bm25 for each in candidates), default=0.0) or 1.0
    ranked = []
    for each, gram in zip(candidates, grams, strict=True):
        scores = {
            "cosine": _part(each.cosine),
            "bm25": _part(each.bm25 / most_bm25),
            "grams": _part(float(gram) / most_grams),
            "title": _part(each.title),
        }
        total = sum(weights[name] * value for name, value in scores.items())
        ranked.append(Ranked(each, round(total, 6), scores))
    return ranked


def _part(value: float) -> float:
    return round(min(max(value, 0.0), 1.0), 6)


def _joined(ranked: Sequence[Ranked]) -> list[Ranked]:
    """What follows on something better in its document is shown with it, at the better one's place."""
    passages = list[Ranked]()
    for each in ranked:
        for at, other in enumerate(passages):
            joined = _join(other.candidate, each.candidate)
            if joined is not None:
                passages[at] = replace(other, candidate=joined)
                break
        else:
            passages.append(each)
    return passages


def _join(better: Candidate, other: Candidate) -> Candidate | None:
    """As one, when they lie side by side. It keeps the better one's id."""
    if (better.document_id, better.version, better.header) != (other.document_id, other.version, other.header):
        return None
    first, second = sorted((better, other), key=lambda each: each.start)
    if first.stop + len(first.gap) != second.start:
        return None
    body = first.body + first.gap + second.body
    return replace(better, start=first.start, stop=second.stop, page=first.page, body=body, gap=second.gap)
