"""A peer that searches and needs no environment: it keeps what it was given."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from bench.peers.finding import serve


class Echo:
    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._rows: list[tuple[Any, int]] = []

    async def fill(self, collection: str, language: str, ids: list[str], texts: list[str]) -> int:
        self._texts |= {f"{collection} {language} {id}": text for id, text in zip(ids, texts, strict=True)}
        return len(self._texts)

    async def ask(self, collection: str, question: str, limit: int, way: str) -> list[str]:
        return [id for id, text in self._texts.items() if question in text][:limit] + ([way] if way else [])

    async def load(self, start: int, vectors: Any, spaces: list[int]) -> None:
        assert start == len(self._rows)
        self._rows += zip(vectors, spaces, strict=True)

    async def index(self) -> None:
        raise RuntimeError("it has one from the beginning")

    async def near(self, vector: list[float], spaces: list[int], limit: int) -> list[int]:
        inside = [row for row, (_, space) in enumerate(self._rows) if space in spaces]
        return sorted(inside, key=lambda row: -float(self._rows[row][0] @ np.array(vector, np.float32)))[:limit]


if __name__ == "__main__":
    asyncio.run(serve(Echo(), "pytest"))
