"""Which candidates answer a question: four likenesses added up, few chunks of each document, neighbours as one passage."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID

import numpy as np

from services.rag.domain.grams import Floats, likeness

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
    parts = _parts(question, candidates)
    weights = WEIGHTS if with_vectors else WITHOUT_VECTORS
    totals = np.round(sum(weights[name] * parts[name] for name in weights), 6).tolist()
    order = sorted(range(len(candidates)), key=lambda at: (-totals[at], candidates[at].document_id, candidates[at].ord))
    kept, taken = list[int](), Counter[UUID]()
    for at in order:
        taken[candidates[at].document_id] += 1
        if taken[candidates[at].document_id] <= PER_DOCUMENT:
            kept.append(at)
    passages = _joined([candidates[at] for at in kept])[:limit]
    values = {name: part.tolist() for name, part in parts.items()}
    return [
        Ranked(passage, totals[kept[at]], {name: values[name][kept[at]] for name in values}) for at, passage in passages
    ]


def _parts(question: str, candidates: Sequence[Candidate]) -> dict[str, Floats]:
    """Each from 0 to 1; words and grams against the best of the candidates."""
    bm25 = np.array([each.bm25 for each in candidates], np.float64)
    grams = likeness(question, [each.folded for each in candidates])
    found: dict[str, Floats] = {
        "cosine": np.array([each.cosine for each in candidates], np.float64),
        "bm25": bm25 / (float(bm25.max(initial=0.0)) or 1.0),
        "grams": grams / max(float(grams.max(initial=0.0)), 1e-9),
        "title": np.array([each.title for each in candidates], np.float64),
    }
    return {name: part.clip(0.0, 1.0).round(6) for name, part in found.items()}


def _joined(ranked: Sequence[Candidate]) -> list[tuple[int, Candidate]]:
    """What follows on something better in its document is shown with it, at the better one's place. With the place that
    the better one had."""
    passages, of_document = list[tuple[int, Candidate]](), defaultdict[UUID, list[int]](list)
    for place, each in enumerate(ranked):
        near = of_document[each.document_id]
        for at in near:
            joined = _join(passages[at][1], each)
            if joined is not None:
                passages[at] = passages[at][0], joined
                break
        else:
            near.append(len(passages))
            passages.append((place, each))
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
