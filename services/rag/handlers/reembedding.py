"""Vectors made later: of a space whose model or chunks are to be others, and of documents that had to do without."""

from __future__ import annotations

from uuid import UUID

import structlog
from pydantic import BaseModel

from chassis.context import Context
from chassis.job_table import Job, NotYet
from chassis.jobs import Jobs
from chassis.postgres import Pool
from chassis.unit_of_work import UnitOfWork
from contracts.errors import Rejection, RetryLater
from contracts.knowledge import DocumentState
from services.rag.adapters.vectors import Vectors, as_rows
from services.rag.domain.chunking import embedded_text, short_title
from services.rag.domain.kinds import Unreadable
from services.rag.domain.questions import NoVectors
from services.rag.embedding.counting import window_of
from services.rag.handlers.ingesting import IngestOrder, progress
from services.rag.handlers.making import BATCH, Making, buyer_of
from services.rag.handlers.superseding import supersede
from services.rag.handlers.turns import Turns
from services.rag.store.index import IndexStore
from services.rag.store.indexes import Indexes, IndexesStore
from services.rag.store.ingestion import IngestionStore, Version

log = structlog.get_logger(__name__)

PAUSE, DOUBLED = 15.0, 3  # seconds until a model that is away is asked again; and how often they grow
AT_ONCE = 0.01  # seconds
SOME = 200  # chunks that come to an index at once; who changes what is searched in the space waits for so many


class SpaceOrder(BaseModel):
    """The payload of a space's job."""

    space_id: UUID


class Reembedding:
    """All of a space is made anew in an index that nobody searches, which then takes the place of the other: a space never
    mixes models."""

    def __init__(self, uow: UnitOfWork, turns: Turns, pool: Pool, jobs: Jobs, making: Making) -> None:
        self._uow = uow
        self._turns = turns
        self._store = IngestionStore(pool)
        self._indexes = IndexesStore(pool)
        self._jobs = jobs
        self._making = making

    async def work(self, job: Job) -> None:
        """What was made of a document stays made, whoever dies meanwhile."""
        space = SpaceOrder.model_validate(job.payload).space_id
        known = await self._indexes.of(space)
        if known is None or known.next is None:
            return await _finish(self._uow, self._jobs, job)
        try:
            for document_id, version in await self._indexes.missing(space, known.next):
                await self._make(document_id, version, known.next)
        except (NoVectors, RetryLater) as away:
            await self._indexes.waits_for(space, str(away))
            log.warning("space.not_reembedded", space_id=str(space), reason=str(away))
            raise NotYet(pause(job), str(away)) from None
        return await self._adopt(job, space, known)

    async def _make(self, document_id: UUID, version: int, index: int) -> None:
        what = await self._store.version(document_id, version, as_wanted=True)
        if what is None or what.index != index:
            return  # it is looked at again before anything is searched
        try:
            await self._build(what)
        except Exception as error:
            now = await self._store.version(document_id, version, as_wanted=True)
            if now is not None and now.index == index:
                raise
            log.info(
                "document.not_made_anew",
                document_id=str(document_id),
                reason="gone, or wanted otherwise",
                error=repr(error),
            )

    async def _build(self, what: Version) -> None:
        try:
            total = await self._making.cut(what)
        except (Unreadable, Rejection) as wrong:
            reason = f"the document {what.title!r} ({what.document_id}): {wrong}, or remove it"
            raise RetryLater(PAUSE, reason) from None
        await self._making.embed(what, total)
        afresh = True
        while await self._add(what, total, afresh):
            afresh = False

    async def _add(self, what: Version, total: int, afresh: bool) -> bool:
        """Some of it comes to its index, after what somebody left there. False when no more has to, or may."""
        async with self._turns.begin(what.space_id, Context()) as tx:
            indexes, index = IndexesStore(tx.conn), IndexStore(tx.conn)
            known = await indexes.of(what.space_id, locked="for share")
            if known is None or known.next != what.index:
                return False
            if not await indexes.has(what):
                if not await indexes.is_built(what):
                    return False
                if afresh:
                    await index.take_out(what.document_id, what.index)
                if await index.add_some(what.company_id, what.index, what.document_id, what.version, SOME):
                    return True
                await indexes.stands(what)
                tx.publish(progress(what, DocumentState.EMBEDDING, total, total))
            await indexes.unbuild(what)
            return False

    async def _adopt(self, job: Job, space: UUID, known: Indexes) -> None:
        """At once, unless something has come to the space, or is wanted by now, that is not made yet."""
        assert known.next is not None, "it was made"
        assert known.wanted is not None, "there is a next index"
        async with self._turns.begin(space, job.context) as tx:
            indexes = IndexesStore(tx.conn)
            now = await indexes.of(space, locked="for update")
            if now is not None and (now.next != known.next or await indexes.missing(space, known.next)):
                raise NotYet(AT_ONCE, "the space has changed meanwhile")
            await self._jobs.finish(tx, job, {})
            if now is not None:
                await indexes.adopt(space, known.wanted)
                await supersede(tx, self._jobs, job.company, space, now.index)
        log.info("space.reembedded", space_id=str(space), model=known.wanted.embedder.model)


class Vectorizing:
    """Documents that were made searchable by their words alone get their vectors once there is a model."""

    def __init__(self, uow: UnitOfWork, turns: Turns, pool: Pool, jobs: Jobs, vectors: Vectors) -> None:
        self._uow = uow
        self._turns = turns
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
        left = await self._store.wordy(what, BATCH)
        if not left:
            return False
        embedder = what.recipe.embedder
        title = short_title(what.title, window_of(embedder.provider))
        texts = [title, *(embedded_text(title, one.header or "", one.body) for _, one in left)]
        about, *rows = as_rows(await self._vectors.of_texts(embedder, texts, buyer_of(what)))
        vectors = {id: row for (id, _), row in zip(left, rows, strict=True)}
        async with self._turns.begin(what.space_id, job.context) as tx:
            known = await IndexesStore(tx.conn).of(what.space_id)
            if known is None or known.index != what.index:
                return False  # the space's own job has made them
            await IngestionStore(tx.conn).give_vectors(what.document_id, what.version, vectors, about)
        return True


def pause(job: Job) -> float:
    return PAUSE * 2.0 ** min(job.waits, DOUBLED)


async def _finish(uow: UnitOfWork, jobs: Jobs, job: Job) -> None:
    async with uow.begin(job.context) as tx:
        await jobs.finish(tx, job, {})
