"""Cutting as the service sees it: what is short is cut at once, what is long by a process; its passages come in parts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from chassis.confined import OverLimit, ask, isolated
from chassis.confined_worker import Limit
from services.rag.domain.kinds import SHORT, Unreadable
from services.rag.domain.parsed import Parsed
from services.rag.domain.passages import Manner, Passage, passages
from services.rag.embedding.counting import window_of

WORKER = Path(__file__).resolve().parents[1] / "cutting" / "__main__.py"
COMMAND = isolated(WORKER)
AT_ONCE = 2  # long texts, which take a process each; and short ones, for which threads are used that searches need
TIMEOUT = 620.0  # seconds; it ends itself before
PART = 50  # passages, which are read and written down without a pause
OVER = {
    Limit.TIME: "cutting the text into passages takes too long; split the document",
    Limit.MEMORY: "cutting the text into passages takes more memory than it may; split the document",
    Limit.SIZE: "the text makes more passages than are taken of one document; split it",
}


class Cutter:
    def __init__(self) -> None:
        self._here, self._apart = asyncio.Semaphore(AT_ONCE), asyncio.Semaphore(AT_ONCE)

    async def passages(self, text: Parsed | Path, manner: Manner, room: Path) -> AsyncGenerator[list[Passage]]:
        """Some at a time, in order. `text` is at hand, or in a file. Raises Unreadable, RetryLater when there is no room in
        `room`, or WorkerDied."""
        if isinstance(text, Parsed) or (await asyncio.to_thread(text.stat)).st_size <= SHORT:
            async with self._here:
                all_of_them = await asyncio.to_thread(_cut, text, manner)
            for at in range(0, len(all_of_them), PART):
                yield all_of_them[at : at + PART]
            return
        async with self._apart:
            into = await self._cut_apart(text, manner, room)
        with closing(await asyncio.to_thread(into.open, "rb")) as lines:
            while part := await asyncio.to_thread(_part, lines):
                yield part

    async def _cut_apart(self, text: Path, manner: Manner, room: Path) -> Path:
        how, into = room / "manner.json", room / "passages"
        how.write_bytes(manner.as_json())
        try:
            await ask((*COMMAND, str(how), str(text), str(into)), room, TIMEOUT)
        except OverLimit as over:
            raise Unreadable(OVER[over.limit]) from None
        return into


def _cut(text: Parsed | Path, manner: Manner) -> list[Passage]:
    parsed = Parsed.of_json(text.read_bytes()) if isinstance(text, Path) else text
    return list(passages(parsed, manner, window_of(manner.provider)))


def _part(lines: BinaryIO) -> list[Passage]:
    return [Passage.of_json(line) for line in islice(lines, PART)]
