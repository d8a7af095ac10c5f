"""One attempt of a claimed job: the work under a lease that is renewed, and what its end means for the row."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
from opentelemetry.trace import SpanKind
from prometheus_client import Counter

from chassis import telemetry
from chassis.job_table import Job, JobTable, LostLease, NotYet
from chassis.outage import Outage
from chassis.postgres import CONNECTION_LOST, server_is_away
from contracts.errors import Code, Failure, Rejection, RetryLater

log = structlog.get_logger(__name__)

ENDED = Counter("jobs_ended_total", "Attempts of jobs by outcome", ["kind", "outcome"])

DEATHS = 5  # attempts beyond `max_attempts` that a job may take because its worker died each time
BACKOFF_CAP = 60.0

Work = Callable[[Job], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Terms:
    """How a kind of job is done. `lease` in seconds; it is renewed while the work runs."""

    work: Work
    max_attempts: int
    lease: float


class Attempt:
    def __init__(self, table: JobTable, terms: Terms, job: Job, database: Outage) -> None:
        self._table = table
        self._terms = terms
        self._job = job
        self._database = database

    async def run(self) -> None:
        """Never fails: what could not be written down is noticed when the lease ends."""
        job = self._job
        structlog.contextvars.bind_contextvars(job=str(job.id), request_id=job.context.request_id)  # of this task
        work = asyncio.create_task(self._work())
        beat = asyncio.create_task(self._keep_lease(work))
        try:
            outcome = await self._outcome(work)
            ENDED.labels(job.kind, outcome).inc()
        except asyncio.CancelledError:
            await self._table.hand_back(job)
            raise
        except CONNECTION_LOST as error:
            self._database.noticed(error)
        finally:
            beat.cancel()

    async def _work(self) -> None:
        job, terms = self._job, self._terms
        with telemetry.span(f"job {job.kind}", SpanKind.CONSUMER, job.context.traceparent):
            await (terms.work(job) if job.attempt <= terms.max_attempts + DEATHS else _deadly(job))

    async def _outcome(self, work: asyncio.Future[None]) -> str:
        try:
            await work
        except LostLease:
            return "lost"
        except NotYet as wait:
            await self._table.put_off(self._job, str(wait), wait.delay)
            return "waits"
        except RetryLater as later:
            return await self._again(later, later.delay, later.failure)
        except Rejection as refusal:
            await self._table.fail(self._job, refusal.failure)
            return "failed"
        except Exception as error:
            if server_is_away(error):
                raise
            return await self._after_bug(error)
        return "done"

    async def _after_bug(self, error: Exception) -> str:
        log.exception("job.failed", kind=self._job.kind, attempt=self._job.attempt)
        telemetry.report(error, job=self._job.kind)
        delay = random.uniform(0.1, min(BACKOFF_CAP, 0.5 * 2.0 ** min(self._job.attempt, 20)))
        failure = Failure(code=Code.INTERNAL, message=f"{type(error).__name__}: {error}")
        return await self._again(error, delay, failure)

    async def _again(self, error: Exception, delay: float, failure: Failure) -> str:
        if self._job.attempt >= self._terms.max_attempts:
            await self._table.fail(self._job, failure)
            return "failed"
        await self._table.retry(self._job, str(error), delay)
        return "retried"

    async def _keep_lease(self, work: asyncio.Future[None]) -> None:
        while True:
            await asyncio.sleep(self._terms.lease / 4)
            try:
                if not await self._table.renew(self._job, self._terms.lease):
                    work.cancel()
                    return
            except CONNECTION_LOST as error:
                self._database.noticed(error)


async def _deadly(job: Job) -> None:
    """Instead of the work, when it seems to kill its workers: a job like that must not go round for ever."""
    raise Rejection(
        Code.INTERNAL, f"its worker died or stalled in most of {job.attempt - 1} attempts; it is not tried again"
    )
