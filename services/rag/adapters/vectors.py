"""Which model makes a space's vectors: of questions by a process of their own, so that no document makes them wait."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import structlog

from contracts.errors import RetryLater
from contracts.knowledge import Embedder
from services.rag.adapters.local_model import MODEL, WIDTH, LocalModel, local_window
from services.rag.adapters.remote_vectors import RemoteVectors
from services.rag.domain.chunking import Window
from services.rag.domain.questions import NoVectors

log = structlog.get_logger(__name__)

LOCAL = "local"
BYTES_OF_A_REMOTE_WINDOW = 8_000  # no more tokens than bytes, and these models take 8,000
PATIENCE = 5.0  # seconds that a question may take: then its answer has to do without


class Vectors:
    """`keep` questions in memory, of all spaces."""

    def __init__(self, questions: LocalModel, documents: LocalModel, remote: RemoteVectors, *, keep: int) -> None:
        self._questions = questions
        self._documents = documents
        self._remote = remote
        self._keep = keep
        self._known: OrderedDict[tuple[str, str, str], tuple[float, ...]] = OrderedDict()

    async def vector(self, embedder: Embedder, question: str) -> Sequence[float]:
        """Of length 1. Raises NoVectors."""
        key = embedder.provider, embedder.model, " ".join(question.split())
        if key in self._known:
            self._known.move_to_end(key)
            return self._known[key]
        try:
            async with asyncio.timeout(PATIENCE):
                (row,) = await self._of(self._questions, embedder, [key[2]])
        except TimeoutError:
            raise NoVectors(f"{embedder.model} takes longer than {PATIENCE:.0f} s for a question") from None
        except RetryLater as busy:
            raise NoVectors(str(busy)) from None
        self._known[key] = vector = tuple(row.tolist())
        while len(self._known) > self._keep:
            self._known.popitem(last=False)
        return vector

    async def of_texts(self, embedder: Embedder, texts: Sequence[str]) -> Any:
        """One row per text, of length 1. Raises NoVectors, or RetryLater while a server is busy."""
        return await self._of(self._documents, embedder, texts)

    async def _of(self, local: LocalModel, embedder: Embedder, texts: Sequence[str]) -> Any:
        if embedder.provider != LOCAL:
            return await self._remote.vectors(embedder, texts)
        if (embedder.model, embedder.dimension) != (MODEL, WIDTH):
            raise NoVectors(f"the local model is {MODEL} with {WIDTH} numbers; the space asks for {embedder.model}")
        return await local.vectors(texts)

    async def warm(self, _: asyncio.Event) -> None:
        """Starts what answers questions, before the first one comes."""
        try:
            await self._questions.vectors(["warm"])
        except NoVectors as none:
            log.warning("model.missing", reason=str(none))

    async def close(self) -> None:
        await asyncio.gather(self._questions.close(), self._documents.close(), self._remote.close())


def window_of(embedder: Embedder) -> Window:
    """What its model takes at once; without one, what it would take by and large."""
    if embedder.provider == LOCAL:
        try:
            return local_window()
        except NoVectors:
            return Window(250, lambda texts: [len(text) // 3 for text in texts])
    return Window(BYTES_OF_A_REMOTE_WINDOW, lambda texts: [len(text.encode()) for text in texts])


def as_rows(vectors: Any) -> list[list[float]]:
    rows: list[list[float]] = np.asarray(vectors).tolist()
    return rows
