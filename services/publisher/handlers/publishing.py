"""Publishing: a ZIP that was sent, or the files an attempt wrote, become a version of a site, whole or not at all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import structlog
from prometheus_client import Counter, Histogram
from pydantic import BaseModel

from chassis.depot import Depot
from chassis.job_attempt import DEATHS
from chassis.job_table import Job, LostLease, NotYet
from chassis.jobs import Jobs
from chassis.postgres import Pool, server_is_away
from chassis.scratch import Scratch
from chassis.unit_of_work import UnitOfWork
from contracts.artifacts import object_key
from contracts.errors import Code, Rejection, RetryLater
from contracts.previews import LARGEST_ARCHIVE, PreviewState
from contracts.refs import BlobRef
from services.publisher.adapters.unpacker import Unpacker
from services.publisher.domain.addresses import Origin
from services.publisher.domain.paths import NoSite, site
from services.publisher.handlers.effects import make_failed, make_ready
from services.publisher.store.previews import PreviewStore, Submission
from services.publisher.store.sites import Files

log = structlog.get_logger(__name__)

KIND = "publish"
ATTEMPTS = 5  # at something that nobody foresaw; to wait is none
LONGEST_PAUSE = 10.0  # seconds between looks for what is away
MOST_WAITS = 8_640  # looks: a day at least
UPLOADS = 8  # files at once
OCTETS = "application/octet-stream"  # whatever they are, the store need not know

PUBLISHED = Counter("publisher_published_total", "Publications of previews by outcome", ["outcome"])
SECONDS = Histogram(
    "publisher_publish_seconds",
    "From the start of a publication's last attempt to its end",
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)


class PublishOrder(BaseModel):
    """The payload of a publication's job."""

    preview_id: UUID


class Found(NamedTuple):
    """A site all of whose bytes are stored."""

    entry: str
    files: Files


class Publishing:
    def __init__(
        self,
        uow: UnitOfWork,
        pool: Pool,
        jobs: Jobs,
        depot: Depot,
        origin: Origin,
        scratch: Scratch,
        unpacker: Unpacker,
    ) -> None:
        self._uow = uow
        self._pool = pool
        self._jobs = jobs
        self._depot = depot
        self._origin = origin
        self._scratch = scratch
        self._unpacker = unpacker

    async def work(self, job: Job) -> None:
        """A store that is away is waited for, a day. What is wrong with what was sent ends it, and so does, after a few
        attempts, what nobody foresaw."""
        began, store = time.perf_counter(), PreviewStore(self._pool, self._origin)
        what = await store.submission(PublishOrder.model_validate(job.payload).preview_id)
        if what is None or what.state in (PreviewState.READY, PreviewState.FAILED):
            return await self._lapse(job)
        await store.begin(what.id)
        try:
            _refuse_what_kills(job)
            await self._publish(job, what)
        except RetryLater as away:
            await self._wait(job, what, str(away))
        except LostLease:
            raise
        except (Rejection, NoSite) as wrong:
            await self._fail(job, what, str(wrong))
        except Exception as error:
            if server_is_away(error) or job.attempt < ATTEMPTS:
                raise
            log.exception("preview.not_published", preview_id=str(what.id))
            await self._fail(job, what, f"it could not be published ({type(error).__name__}); publish it again")
        SECONDS.observe(time.perf_counter() - began)
        return None

    async def _publish(self, job: Job, what: Submission) -> None:
        found = _of_tree(what) if what.source == "files" else await self._of_archive(what)
        async with self._uow.begin(job.context) as tx:
            await self._jobs.finish(tx, job, {"files": len(found.files)})
            await make_ready(tx, self._origin, what, found.entry, found.files)
        PUBLISHED.labels("ready").inc()

    async def _of_archive(self, what: Submission) -> Found:
        """Raises Rejection with what is wrong with it, or RetryLater."""
        assert what.zip_sha256 is not None, "it is of a ZIP"
        ref = self._depot.ref(what.company_id, what.zip_sha256, what.zip_size or 0, OCTETS)
        async with self._scratch.room() as room:
            archive, into = room / "archive", room / "files"
            await asyncio.to_thread(into.mkdir)
            await self._fetch(ref, archive)
            unpacked = await self._unpacker.unpack(archive, into, what.wanted_entry)
            await self._put(what.company_id, into, unpacked.files)
        return Found(unpacked.entry, unpacked.files)

    async def _fetch(self, ref: BlobRef, archive: Path) -> None:
        if ref.size > LARGEST_ARCHIVE:
            raise Rejection(Code.TOO_LARGE, f"the archive has {ref.size:,} bytes, and may have {LARGEST_ARCHIVE:,}")
        try:
            await self._depot.blobs.get_file(ref, archive)
        except Rejection as gone:
            raise Rejection(Code.NOT_FOUND, f"{gone}; send the archive again") from None

    async def _put(self, company: str, directory: Path, files: Files) -> None:
        """What is not stored yet, a few at once."""
        missing = await self._depot.want(company, dict(files.values()))
        left = iter(missing)
        try:
            async with asyncio.TaskGroup() as uploads:
                for _ in range(UPLOADS):
                    uploads.create_task(self._put_each(company, directory, left))
        except ExceptionGroup as several:
            raise several.exceptions[0] from None
        await self._depot.stored(company, *missing)

    async def _put_each(self, company: str, directory: Path, left: Iterator[str]) -> None:
        place = object_key(company, "").rstrip("/")
        for sha256 in left:
            await self._depot.blobs.put_file(directory / sha256, company=place, content_type=OCTETS, sha256=sha256)

    async def _wait(self, job: Job, what: Submission, reason: str) -> None:
        if job.waits < MOST_WAITS:
            raise NotYet(job.pause(LONGEST_PAUSE), reason)
        await self._fail(job, what, f"{reason}, and has not for a day; publish it again when it is back")

    async def _fail(self, job: Job, what: Submission, error: str) -> None:
        async with self._uow.begin(job.context) as tx:
            await self._jobs.finish(tx, job, {"error": error[:200]})
            await make_failed(tx, self._origin, what, error)
        PUBLISHED.labels("failed").inc()
        log.info("preview.failed", preview_id=str(what.id), error=error)

    async def _lapse(self, job: Job) -> None:
        """It was removed, or its end is on record already."""
        async with self._uow.begin(job.context) as tx:
            await self._jobs.finish(tx, job, {"lapsed": True})
        PUBLISHED.labels("lapsed").inc()


def _refuse_what_kills(job: Job) -> None:
    """Raises Rejection, at the last attempt that the work is given."""
    if job.attempt >= ATTEMPTS + DEATHS:
        raise Rejection(
            Code.INTERNAL, f"publisher died or stalled in most of {job.attempt - 1} attempts; publish it again"
        )


def _of_tree(what: Submission) -> Found:
    """The bytes are stored since they were written. Raises NoSite."""
    assert what.tree is not None, "it is of files"
    found = site(what.tree, what.wanted_entry)
    return Found(found.entry, {path: what.tree[given] for path, given in found.files.items()})
