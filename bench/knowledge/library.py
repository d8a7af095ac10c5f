"""A library of many chunks out of a few real ones: neighbours blended, spaces made of topics, as companies have them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np

from contracts.knowledge import Language
from services.rag.domain.analysis import Indexed, analyse

NEIGHBOURS = 10
NOISE = 0.01  # a dimension: .2 of a vector's length of 1
MIX = (0.2, 0.8)  # how much of the neighbour
CHUNKS_A_DOCUMENT = 4
#: so many spaces, each with this share of all chunks; the first two are the scope of half of them
SHARES = ((2, 0.25), (6, 0.05), (40, 0.005))
PROCESSES = 4


@dataclass(frozen=True, slots=True)
class Seed:
    """A chunk that was made of a real document."""

    document: Any
    title: str
    language: Language
    body: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """What its rows are made of; its vector is that of the same row."""

    space: int
    seed: Any  # the real document whose title it has
    body: str
    indexed: Indexed


@dataclass(frozen=True, slots=True)
class Space:
    language: Language
    rows: range


@dataclass(frozen=True, slots=True)
class Library:
    """In the order of its spaces. `vectors` as they are stored, which is with half the precision."""

    spaces: Sequence[Space]
    chunks: Sequence[Chunk]
    vectors: Any

    def of_space(self) -> Any:
        return np.repeat(np.arange(len(self.spaces)), [len(space.rows) for space in self.spaces])

    def scopes(self) -> dict[str, list[list[int]]]:
        """The spaces of each scope of a share of the library. Scopes of one share are asked in turn."""
        at, found = 2, {"50 %": [[0, 1]]}
        for (count, _), name in zip(SHARES[1:], ("5 %", ".5 %"), strict=True):
            found[name] = [[space] for space in range(at, at + count)]
            at += count
        return found

    def rows_in(self, scope: Sequence[int]) -> Any:
        return np.concatenate(
            [np.arange(self.spaces[space].rows.start, self.spaces[space].rows.stop) for space in scope]
        )


def library(seeds: Sequence[Seed], seed_vectors: Any, rows: int, dice: np.random.Generator) -> Library:
    first = dice.integers(0, len(seeds), rows)
    second = _near(seed_vectors)[first, dice.integers(0, NEIGHBOURS, rows)]
    mix = dice.uniform(*MIX, (rows, 1)).astype(np.float32)
    vectors = (1 - mix) * seed_vectors[first] + mix * seed_vectors[second]
    vectors += dice.normal(0, NOISE, vectors.shape).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    order, spaces = _shelved(vectors, [seeds[at].language for at in first], dice)
    texts = _texts(seeds, list(zip(first[order].tolist(), second[order].tolist(), strict=True)), spaces)
    return Library(spaces, texts, vectors[order].astype(np.float16).astype(np.float32))


def _near(vectors: Any) -> Any:
    likeness = vectors @ vectors.T
    np.fill_diagonal(likeness, -1)
    return np.argpartition(-likeness, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]


def _shelved(vectors: Any, languages: Sequence[Language], dice: np.random.Generator) -> tuple[Any, list[Space]]:
    """Each space takes what is nearest to one chunk of those that are left: a topic."""
    left, is_french = np.arange(len(vectors)), np.array([language is Language.FR for language in languages])
    order, spaces, at = [], list[Space](), 0
    for number, share in enumerate(share for count, share in SHARES for _ in range(count)):
        size = min(round(share * len(vectors)), len(left))
        wanted = left[is_french[left] == bool(number % 2)] if number < 2 else left
        topic = dice.choice(wanted if len(wanted) else left)
        taken = left[np.argsort(-(vectors[left] @ vectors[topic]), kind="stable")[:size]]
        left = np.setdiff1d(left, taken, assume_unique=True)
        order.append(dice.permutation(taken))
        spaces.append(Space(languages[topic], range(at, at + size)))
        at += size
    return np.concatenate(order), spaces


def _texts(seeds: Sequence[Seed], pairs: Sequence[tuple[int, int]], spaces: Sequence[Space]) -> list[Chunk]:
    """Of pairs that come again, which most do, in one language each is analysed once."""
    wanted = [(number, (*pairs[row], space.language)) for number, space in enumerate(spaces) for row in space.rows]
    given = list(dict.fromkeys(key for _, key in wanted))
    with ProcessPoolExecutor(PROCESSES, get_context("spawn")) as processes:  # threads do not survive a fork
        made = processes.map(_text, [(seeds[a], seeds[b], language) for a, b, language in given], chunksize=1_000)
        texts = dict(zip(given, made, strict=True))
    return [Chunk(number, seeds[key[0]].document, *texts[key]) for number, key in wanted]


def _text(given: tuple[Seed, Seed, Language]) -> tuple[str, Indexed]:
    """The first half of one and the second of its neighbour."""
    one, other, language = given
    begin, end = one.body.split(), other.body.split()
    body = " ".join(begin[: len(begin) // 2 + 1] + end[len(end) // 2 :])
    return body, analyse(body, None, one.title, language)
