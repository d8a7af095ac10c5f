"""What a peer that searches is asked, and how. Runs in the peers' environments: stdlib and numpy only."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from bench.peers.protocol import answer


class Finder(Protocol):
    """`way` names one of the ways in which it searches; "" is what it does by default."""

    async def fill(self, collection: str, language: str, ids: list[str], texts: list[str]) -> int:
        """Returns how many rows it made of them."""

    async def ask(self, collection: str, question: str, limit: int, way: str) -> list[str]:
        """The ids of the texts that its rows are of, the best first, perhaps the same again."""

    async def load(self, start: int, vectors: Any, spaces: list[int]) -> None:
        """Rows of a library, numbered from `start`, without texts."""

    async def near(self, vector: list[float], spaces: list[int], limit: int) -> list[int]:
        """Rows of the library in these spaces that are nearest to the vector."""


@runtime_checkable
class Indexing(Protocol):
    """A finder that has no index by default."""

    async def index(self) -> None:
        """Over the library, as its documentation advises."""


async def serve(finder: Finder, *packages: str) -> None:
    async def carry_out(order: dict[str, Any]) -> dict[str, Any]:
        return await _carried_out(finder, order)

    await answer(carry_out, *packages)


async def _carried_out(finder: Finder, order: dict[str, Any]) -> dict[str, Any]:
    began = time.perf_counter()
    match order["do"]:
        case "fill":
            texts = _read(order["texts"])
            rows = await finder.fill(order["collection"], order["language"], list(texts), list(texts.values()))
            return {"rows": rows, "seconds": time.perf_counter() - began}
        case "ask":
            calls = [(order["collection"], q, order["limit"], order["way"]) for q in order["questions"]]
            return await _timed([lambda c=call: finder.ask(*c) for call in calls])
        case "load":
            vectors, spaces = np.load(order["vectors"], mmap_mode="r"), np.load(order["spaces"])
            part = slice(order["start"], order["stop"])
            await finder.load(order["start"], np.asarray(vectors[part], np.float32), spaces[part].tolist())
            return {"seconds": time.perf_counter() - began}
        case "index" if isinstance(finder, Indexing):
            await finder.index()
            return {"seconds": time.perf_counter() - began}
        case "near":
            asked = np.load(order["questions"])[order["rows"]]
            return await _timed([lambda q=q: finder.near(q.tolist(), order["spaces"], order["limit"]) for q in asked])
        case unknown:
            raise ValueError(f"there is no order {unknown!r}")


def _read(path: str) -> dict[str, str]:
    found: dict[str, str] = json.loads(Path(path).read_text(encoding="utf-8"))
    return found


async def _timed(calls: Sequence[Any]) -> dict[str, Any]:
    found, seconds = [], []
    for call in calls:
        began = time.perf_counter()
        found.append(await call())
        seconds.append(time.perf_counter() - began)
    return {"found": found, "seconds": seconds}
