"""Quality of a ranking against what is known to be relevant, as trec_eval counts: gain is the grade itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean


@dataclass(frozen=True, slots=True)
class Quality:
    ndcg_10: float
    recall_10: float
    recall_100: float

    def __str__(self) -> str:
        return f"{self.ndcg_10:.3f} / {self.recall_10:.3f} / {self.recall_100:.3f}"


def ndcg(ranked: Sequence[str], relevant: Mapping[str, int], depth: int = 10) -> float:
    ideal = _gain(sorted(relevant.values(), reverse=True)[:depth])
    return _gain([relevant.get(id, 0) for id in ranked[:depth]]) / ideal if ideal else 0.0


def _gain(grades: Sequence[int]) -> float:
    return sum(max(0, grade) / math.log2(place + 2) for place, grade in enumerate(grades))


def recall(ranked: Sequence[str], relevant: Mapping[str, int], depth: int) -> float:
    wanted = {id for id, grade in relevant.items() if grade > 0}
    return len(wanted & set(ranked[:depth])) / len(wanted) if wanted else 0.0


def quality(rankings: Mapping[str, Sequence[str]], relevant: Mapping[str, Mapping[str, int]]) -> Quality:
    """Over the questions that were ranked. `rankings` has documents, each once, the best first."""
    judged = {id: ranked for id, ranked in rankings.items() if any(grade > 0 for grade in relevant[id].values())}
    return Quality(
        fmean(ndcg(ranked, relevant[id]) for id, ranked in judged.items()),
        fmean(recall(ranked, relevant[id], 10) for id, ranked in judged.items()),
        fmean(recall(ranked, relevant[id], 100) for id, ranked in judged.items()),
    )
