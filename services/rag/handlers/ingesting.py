"""Ingestion: a version that was sent is read, cut, embedded and then searched, whole or not at all."""

from __future__ import annotations

import time
from uuid import UUID

import structlog
from prometheus_client import Counter, Histogram
from pydantic import BaseModel

from chassis.context import Context
from chassis.job_table import Job, LostLease, NotYet
from chassis.jobs import Jobs
from chassis.postgres import Pool, server_is_away
from chassis.unit_of_work import UnitOfWork
from contracts.errors import Rejection, RetryLater
from contracts.knowledge import DocumentProgress, DocumentState
from services.rag.domain.kinds import NeedsOcr, Unreadable
from services.rag.domain.questions import NoVectors
from services.rag.domain.work import VECTORS
from services.rag.handlers.effects import make_failed, make_ready
from services.rag.handlers.making import Making
from services.rag.handlers.turns import Turns
from services.rag.store.ingestion import IngestionStore, Version

log = structlog.get_logger(__name__)

LONGEST_PAUSE = 30.0  # seconds until a store or a model is tried again
SURPRISES = 5  # attempts before something nobody foresaw is told to who waits
MOST_ATTEMPTS = 8  # more than surprises: those beyond them are deaths of who was at it
AT_ONCE = 0.01  # seconds
PATIENT = 5  # times that a busy model is waited for; then the document is searched by its words meanwhile
SMALL = 32 * 1024  # bytes
DEADLY = "whoever made it searchable died over it again and again; split it, or save it anew"
OVERTAKEN = "a newer version was searched before this one was ready; send it again if it is the right one"
ENDED = (DocumentState.READY, DocumentState.FAILED, DocumentState.NEEDS_OCR)

INGESTED = Counter("rag_ingested_total", "Ended ingestions by outcome", ["outcome"])
SECONDS = Histogram(
    "rag_ingest_seconds",
    "From the start of an ingestion's last attempt to its end",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120),
)


class IngestOrder(BaseModel):
    """The payload of an ingestion's job."""

    document_id: UUID
    version: int


class News:
    """Tells how far a version is."""

    def __init__(self, uow: UnitOfWork) -> None:
        self._uow = uow

    async def tell(self, what: Version, state: DocumentState, done: int, total: int) -> None:
        async with self._uow.begin(Context()) as tx:
            tx.publish(progress(what, state, done, total))


def progress(what: Version, state: DocumentState, done: int, total: int) -> DocumentProgress:
    return DocumentProgress(
        company=what.company_id,
        document_id=what.document_id,
        space_id=what.space_id,
        title=what.title,
        version=what.version,
        state=state,
        done=done,
        total=total,
    )


class Ingesting:
    def __init__(self, uow: UnitOfWork, turns: Turns, pool: Pool, jobs: Jobs, making: Making, news: News) -> None:
        self._uow = uow
        self._turns = turns
        self._store = IngestionStore(pool)
        self._jobs = jobs
        self._making = making
        self._news = news

    async def work(self, job: Job) -> None:
        """What is away is waited for. What is wrong with the document ends it, and so does, after a few attempts, what
        nobody foresaw."""
        began, order = time.perf_counter(), IngestOrder.model_validate(job.payload)
        what = await self._store.version(order.document_id, order.version)
        if what is None or what.state in ENDED:
            return await self._lapse(job)
        if job.attempt > MOST_ATTEMPTS:
            return await self._fail(job, what, Unreadable(DEADLY))
        if what.is_overtaken:
            return await self._fail(job, what, Unreadable(OVERTAKEN))
        try:
            await self._ingest(job, what)
        except NotYet:
            raise
        except RetryLater as away:
            raise NotYet(job.pause(LONGEST_PAUSE), str(away)) from None
        except LostLease:
            raise
        except (Unreadable, Rejection) as wrong:
            await self._fail(job, what, wrong)
        except Exception as error:
            if server_is_away(error):
                raise
            await self._surprised(job, what, error)
        SECONDS.observe(time.perf_counter() - began)
        return None

    async def _surprised(self, job: Job, what: Version, error: Exception) -> None:
        """Raises it, until that is of no use. What was removed meanwhile has no rows to add to, and is no surprise."""
        if await self._store.version(what.document_id, what.version) is None:
            return await self._lapse(job)
        if job.attempt < SURPRISES:
            raise error
        log.error("document.not_ingested", document_id=str(what.document_id), version=what.version, exc_info=error)
        return await self._fail(
            job, what, Unreadable(f"it could not be made searchable ({type(error).__name__}); save it anew")
        )

    async def _ingest(self, job: Job, what: Version) -> None:
        is_begun = not what.is_cut and await self._store.enter(what.document_id, what.version, DocumentState.PARSING)
        if is_begun and what.size > SMALL:  # what is read at once is no news
            await self._news.tell(what, DocumentState.PARSING, 0, 0)
        total = await self._making.cut(what)
        try:
            await self._making.embed(what, total)
            lacks = None
        except (NoVectors, RetryLater) as none:
            if isinstance(none, RetryLater) and job.waits < PATIENT:
                await self._store.version_waits_for(what.document_id, what.version, str(none))
                raise
            lacks = str(none)
            log.warning("document.without_vectors", document_id=str(what.document_id), reason=lacks)
        await self._publish(job, what, lacks)

    async def _publish(self, job: Job, what: Version, lacks: str | None) -> None:
        async with self._turns.begin(what.space_id, job.context) as tx:
            now = await IngestionStore(tx.conn).version(what.document_id, what.version)
            if now is not None and not (now.recipe == what.recipe and now.is_cut):
                raise NotYet(AT_ONCE, "it has to be made in another way by now; it is embedded anew")
            await self._jobs.finish(tx, job, {"lacks": lacks} if lacks else {})
            is_ready = await make_ready(tx, what.document_id, what.version)
            if not is_ready:
                await make_failed(tx, what.document_id, what.version, DocumentState.FAILED, OVERTAKEN)
            else:  # its document is locked by now: whoever changes both locks that first
                await IngestionStore(tx.conn).version_waits_for(what.document_id, what.version, lacks)
            if is_ready and lacks:
                ref, payload = f"{what.document_id} {what.version}", job.payload
                await self._jobs.enqueue(tx, VECTORS, ref, payload, company=what.company_id)
        INGESTED.labels("ready" if is_ready else "lapsed").inc()

    async def _fail(self, job: Job, what: Version, wrong: Unreadable | Rejection) -> None:
        state = DocumentState.NEEDS_OCR if isinstance(wrong, NeedsOcr) else DocumentState.FAILED
        async with self._uow.begin(job.context) as tx:
            await self._jobs.finish(tx, job, {"error": str(wrong)[:200]})
            await make_failed(tx, what.document_id, what.version, state, str(wrong))
        INGESTED.labels(state.value).inc()
        log.info("document.failed", document_id=str(what.document_id), version=what.version, error=str(wrong))

    async def _lapse(self, job: Job) -> None:
        """It was removed, or its end is on record already."""
        async with self._uow.begin(job.context) as tx:
            await self._jobs.finish(tx, job, {"lapsed": True})
        INGESTED.labels("lapsed").inc()
