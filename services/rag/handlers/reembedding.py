"""Vectors made later: of a space whose model or chunks are to be others, and of documents that had to do without."""

from __future__ import annotations

from uuid import UUID

import structlog
from pydantic import BaseModel

from chassis.job_table import Job, NotYet
from chassis.jobs import Jobs
from chassis.postgres import Pool
from chassis.unit_of_work import UnitOfWork
from contracts.errors import Rejection, RetryLater
from contracts.knowledge import DocumentState
from services.rag.adapters.vectors import Vectors, as_rows, window_of
from services.rag.domain.chunking import embedded_text, short_title
from services.rag.domain.kinds import Unreadable
from services.rag.domain.questions import NoVectors
from services.rag.handlers.ingesting import IngestOrder, News
from services.rag.handlers.making import BATCH, Making, buyer_of
from services.rag.store.index import LENGTHY, IndexStore
from services.rag.store.ingestion import IngestionStore, Recipe, Version

log = structlog.get_logger(__name__)

PAUSE, DOUBLED = 15.0, 3  # seconds until a model that is away is asked again; and how often they grow
AT_ONCE = 0.01  # seconds


class SpaceOrder(BaseModel):
    """The payload of a space's job."""

    space_id: UUID


class Reembedding:
    """Until all of a space is made anew, search goes on with what there was: a space never mixes models."""

    def __init__(self, uow: UnitOfWork, pool: Pool, jobs: Jobs, making: Making, news: News) -> None:
        self._uow = uow
        self._store = IngestionStore(pool)
        self._jobs = jobs
        self._making = making
        self._news = news

    async def work(self, job: Job) -> None:
        """What was made of a document stays made, whoever dies meanwhile."""
        space = SpaceOrder.model_validate(job.payload).space_id
        known = await self._store.recipe(space)
        if known is None or (wanted := known[1]) is None:
            return await _finish(self._uow, self._jobs, job)
        try:
            for document_id, version in await self._store.outdated(space, wanted):
                await self._make(document_id, version, wanted)
        except (NoVectors, RetryLater) as away:
            await self._store.waits_for(space, str(away))
            log.warning("space.not_reembedded", space_id=str(space), reason=str(away))
            raise NotYet(pause(job), str(away)) from None
        return await self._adopt(job, space, wanted)

    async def _make(self, document_id: UUID, version: int, wanted: Recipe) -> None:
        what = await self._store.version(document_id, version, as_wanted=True)
        if what is None or what.recipe != wanted:
            return  # it is looked at again before anything is searched
        try:
            total = await self._making.cut(what)
        except (Unreadable, Rejection) as wrong:
            raise RetryLater(PAUSE, f"the document {what.title!r} ({document_id}): {wrong}, or remove it") from None
        await self._making.embed(what, total)
        await self._news.tell(what, DocumentState.EMBEDDING, total, total)

    async def _adopt(self, job: Job, space: UUID, wanted: Recipe) -> None:
        """All of the space at once, unless something has come to it, or is wanted by now, that is not made yet."""
        async with self._uow.begin(job.context) as tx:
            store, index = IngestionStore(tx.conn), IndexStore(tx.conn)
            await index.hold(space, patience=LENGTHY)
            known = await store.recipe(space, to_change=True)
            if known is not None and (known[1] != wanted or await store.outdated(space, wanted)):
                raise NotYet(AT_ONCE, "the space has changed meanwhile")
            await self._jobs.finish(tx, job, {})
            for document_id, version in await store.searchable(space):
                await index.swap(document_id, version)
            await store.adopt(space, wanted)
        log.info("space.reembedded", space_id=str(space), model=wanted.embedder.model)


class Vectorizing:
    """Documents that were made searchable by their words alone get their vectors once there is a model."""

    def __init__(self, uow: UnitOfWork, pool: Pool, jobs: Jobs, vectors: Vectors) -> None:
        self._uow = uow
        self._store = IngestionStore(pool)
        self._jobs = jobs
        self._vectors = vectors

    async def work(self, job: Job) -> None:
        order = IngestOrder.model_validate(job.payload)
        what = await self._store.version(order.document_id, order.version)
        try:
            while what is not None and await self._some(job, what):
                pass
        except (NoVectors, RetryLater) as away:
            await self._store.version_waits_for(order.document_id, order.version, str(away))
            raise NotYet(pause(job), str(away)) from None
        await self._store.version_waits_for(order.document_id, order.version, None)
        await _finish(self._uow, self._jobs, job)

    async def _some(self, job: Job, what: Version) -> bool:
        """False when nothing is left, or the version is searched no more."""
        left = await self._store.wordy(what.document_id, what.version, BATCH)
        if not left:
            return False
        embedder = what.recipe.embedder
        title = short_title(what.title, window_of(embedder))
        texts = [title, *(embedded_text(title, one.header or "", one.body) for _, one in left)]
        about, *rows = as_rows(await self._vectors.of_texts(embedder, texts, buyer_of(what)))
        vectors = {id: row for (id, _), row in zip(left, rows, strict=True)}
        async with self._uow.begin(job.context) as tx:
            store = IngestionStore(tx.conn)
            await IndexStore(tx.conn).hold(what.space_id, patience=LENGTHY)
            known = await store.recipe(what.space_id)
            if known is None or known[0] != what.recipe:
                return False  # the space's own job makes them
            await store.give_vectors(what.document_id, what.version, vectors, about)
        return True


def pause(job: Job) -> float:
    return PAUSE * 2.0 ** min(job.waits, DOUBLED)


async def _finish(uow: UnitOfWork, jobs: Jobs, job: Job) -> None:
    async with uow.begin(job.context) as tx:
        await jobs.finish(tx, job, {})
