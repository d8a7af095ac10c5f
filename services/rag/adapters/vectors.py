"""Which model makes a space's vectors: of questions by a process of their own, so that no document makes them wait."""

from __future__ import annotations

import asyncio
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import structlog

from contracts.errors import RetryLater
from contracts.knowledge import Embedder, Language
from services.rag.adapters.local_model import MODEL, STOPPING, WIDTH, LocalModel
from services.rag.adapters.remote_vectors import RemoteVectors
from services.rag.domain.language import NOTHING_IN_PARTICULAR, language_of
from services.rag.domain.questions import NoVectors
from services.rag.domain.spending import Buyer
from services.rag.embedding.counting import LOCAL

log = structlog.get_logger(__name__)

LEARNED = Language.EN  # by the local model
PATIENCE = 5.0  # seconds that a question may take: then its answer has to do without


class Vectors:
    """`keep` questions in memory, of all spaces."""

    def __init__(self, questions: LocalModel, documents: LocalModel, remote: RemoteVectors, *, keep: int) -> None:
        self._questions = questions
        self._documents = documents
        self._remote = remote
        self._keep = keep
        self._known: OrderedDict[tuple[Embedder, str], array[float]] = OrderedDict()
        self._ways: dict[Language, Any] = {}
        self._bought: dict[tuple[Embedder, str], asyncio.Task[Any]] = {}  # questions under way to a provider
        self._buys = True

    async def vector(self, embedder: Embedder, question: str, buyer: Buyer) -> Sequence[float]:
        """Of length 1. Raises NoVectors. One that is known costs nothing, whoever has paid for it."""
        key = embedder, " ".join(question.split())
        if key in self._known:
            self._known.move_to_end(key)
            return self._known[key]
        try:
            async with asyncio.timeout(PATIENCE):
                row = await (self._question(*key) if embedder.provider == LOCAL else self._buy(*key, buyer))
        except TimeoutError:
            raise NoVectors(f"{embedder.model} takes longer than {PATIENCE:.0f} s for a question") from None
        except RetryLater as busy:
            raise NoVectors(str(busy)) from None
        return self._keeps(key, row)

    def _keeps(self, key: tuple[Embedder, str], row: Any) -> Sequence[float]:
        self._known[key] = vector = array("f", row.tolist())
        while len(self._known) > self._keep:
            self._known.popitem(last=False)
        return vector

    def _buy(self, embedder: Embedder, question: str, buyer: Buyer) -> asyncio.Future[Any]:
        """Once, however many ask: who waits for an answer for a second asks again. Its vector is kept, whoever gives up."""
        key = embedder, question

        async def bought() -> Any:
            try:
                (row,) = await self._remote.vectors(embedder, [question], buyer)
                self._keeps(key, row)
                return row
            except asyncio.CancelledError:
                raise NoVectors(STOPPING) from None
            finally:
                del self._bought[key]

        if key not in self._bought and not self._buys:
            raise NoVectors(STOPPING)
        if key not in self._bought:
            self._bought[key] = task = asyncio.create_task(bought())
            task.add_done_callback(lambda task: task.cancelled() or task.exception())  # nobody may wait for it any more
        return asyncio.shield(self._bought[key])

    async def _question(self, embedder: Embedder, question: str) -> Any:
        """As if it were put in the model's language, which otherwise finds what is French rather than what is meant."""
        (row,) = await _local(self._questions, embedder, [question])
        language = language_of(question)
        if language is None or language is LEARNED:
            return row
        moved = row + await self._way_from(language)
        return moved / np.linalg.norm(moved)

    async def _way_from(self, language: Language) -> Any:
        if language not in self._ways:
            here, there = NOTHING_IN_PARTICULAR[language], NOTHING_IN_PARTICULAR[LEARNED]
            rows = await self._questions.vectors([*here, *there])
            self._ways[language] = rows[len(here) :].mean(axis=0) - rows[: len(here)].mean(axis=0)
        return self._ways[language]

    def awake(self, embedder: Embedder) -> None:
        """Texts of documents follow."""
        if embedder.provider == LOCAL:
            self._documents.awake()

    async def of_texts(self, embedder: Embedder, texts: Sequence[str], buyer: Buyer) -> Any:
        """One row per text, of length 1. Raises NoVectors, or RetryLater while a server is busy."""
        if embedder.provider != LOCAL:
            return await self._remote.vectors(embedder, texts, buyer)
        return await _local(self._documents, embedder, texts)

    async def warm(self, _: asyncio.Event) -> None:
        """Starts what answers questions, before the first one comes."""
        try:
            for language in (each for each in Language if each is not LEARNED):
                await self._way_from(language)
        except NoVectors as none:
            log.warning("model.missing", reason=str(none))

    async def stop_buying(self) -> None:
        """While what the calls under way may have cost can still be settled: of those that would begin now it cannot."""
        self._buys = False
        under_way = list(self._bought.values())
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    async def close(self) -> None:
        await asyncio.gather(self._questions.close(), self._documents.close(), self._remote.close())


async def _local(model: LocalModel, embedder: Embedder, texts: Sequence[str]) -> Any:
    if (embedder.model, embedder.dimension) != (MODEL, WIDTH):
        raise NoVectors(f"the local model is {MODEL} with {WIDTH} numbers; the space asks for {embedder.model}")
    return await model.vectors(texts)


def as_rows(vectors: Any) -> list[list[float]]:
    rows: list[list[float]] = np.asarray(vectors).tolist()
    return rows
