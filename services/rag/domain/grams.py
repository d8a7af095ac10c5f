"""Likeness of letters: what shares runs of four characters with the question, however it is spelled or inflected."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from services.rag.domain.analysis import K1, B, words

RUN = 4  # characters
FACTORS = tuple(np.uint32(odd) for odd in (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D, 0x27D4EB2F))
BITS = 16  # of the table in which runs are looked up
Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.uint32]


def likeness(question: str, texts: Sequence[str]) -> Floats:
    """BM25 of runs, of which those count most that few of the candidates have. 0 for what shares none.

    Each text begins and ends with a blank, and the question has no two in a row: no run of two texts is one of its own.
    """
    wanted = np.unique(_runs(words(question)))
    if not len(wanted) or not texts:
        return np.zeros(len(texts))
    lengths = np.array([len(text) for text in texts])
    places, of = _hits(wanted, _runs("".join(texts)))
    owner = np.searchsorted(np.cumsum(lengths), places, side="right")
    counts = np.bincount(owner * len(wanted) + of, minlength=len(texts) * len(wanted)).reshape(len(texts), -1)
    having = (counts > 0).sum(axis=0)
    idf = np.log(1 + (len(texts) - having + 0.5) / (having + 0.5))
    spread = K1 * (1 - B + B * lengths / max(float(lengths.mean()), 1.0))
    found: Floats = (counts * (K1 + 1) / (counts + spread[:, None]) * idf).sum(axis=1)
    return found


def _hits(wanted: Numbers, runs: Numbers) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where there are runs that are wanted, and which of them. A table first: most runs end there."""
    shift = np.uint32(32 - BITS)
    is_near = np.zeros(1 << BITS, dtype=bool)
    is_near[wanted >> shift] = True
    near = np.flatnonzero(is_near[runs >> shift])
    at = np.minimum(np.searchsorted(wanted, runs[near]), len(wanted) - 1)
    is_hit = wanted[at] == runs[near]
    return near[is_hit], at[is_hit]


def _runs(text: str) -> Numbers:
    """A number for each run of characters."""
    points = np.frombuffer(text.encode("utf-32-le", "replace"), dtype="<u4").astype(np.uint32, copy=False)
    if len(points) < RUN:
        return np.empty(0, dtype=np.uint32)
    found: Numbers = points[: len(points) - RUN + 1] * FACTORS[0]
    for at in range(1, RUN):
        found = (found ^ (found >> np.uint32(15))) * FACTORS[at - 1] + points[
            at : len(points) - RUN + 1 + at
        ] * FACTORS[at]
    return found
