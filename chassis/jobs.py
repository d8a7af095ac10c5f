"""Long work that must survive its worker: committed as a row, claimed with a lease, fenced by its attempt.

A worker claims a due job (`skip locked`), works outside any transaction, and records the result in a transaction whose
`finish` checks that the attempt is still its own. A worker that dies is noticed when its lease ends; a worker that comes
back from the dead is refused by the fence.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID, uuid4

import structlog
from opentelemetry.trace import SpanKind
from prometheus_client import Counter

from chassis import telemetry
from chassis.context import Context
from chassis.postgres import CONNECTION_LOST, Pool, storable
from chassis.unit_of_work import Tx
from contracts.errors import Code, Failure, FluidcrewError, Rejection, RetryLater

log = structlog.get_logger(__name__)

ENDED = Counter("jobs_ended_total", "Attempts of jobs by outcome", ["kind", "outcome"])

DEATHS = 5  # attempts beyond `max_attempts` that a job may take because its worker died each time
POLL = 1.0  # seconds between looks at the table when no doorbell rings
BACKOFF_CAP = 60.0

ENQUEUE = """
insert into jobs (id, company_id, kind, ref, payload, context, due_at)
values ($1, $2, $3, $4, $5, $6, clock_timestamp() + make_interval(secs => $7))
on conflict (kind, ref) where state in ('queued', 'running') do update set kind = excluded.kind
returning id
"""
CLAIM = """
update jobs set state = 'running', attempt = attempt + 1, worker = $3,
    lease_until = clock_timestamp() + make_interval(secs => $4)
where id in (
    select id from jobs
    where kind = $1 and (state = 'queued' and due_at <= clock_timestamp()
                         or state = 'running' and lease_until < clock_timestamp())
    order by due_at limit $2 for update skip locked)
returning id, kind, ref, company_id, payload, context, attempt
"""
FENCE = "id = $1 and attempt = $2 and worker = $3 and state = 'running'"
BEAT = f"update jobs set lease_until = clock_timestamp() + make_interval(secs => $4) where {FENCE} returning true"
FINISH = f"""
update jobs set state = 'done', result = $4, ended_at = clock_timestamp(), lease_until = null where {FENCE} returning true
"""
RETRY = f"""
update jobs set state = 'queued', lease_until = null, error = $4,
    due_at = clock_timestamp() + make_interval(secs => $5) where {FENCE}
"""
FAIL = f"""
update jobs set state = 'failed', error = $4, result = $5, ended_at = clock_timestamp(), lease_until = null where {FENCE}
"""
HAND_BACK = f"update jobs set state = 'queued', lease_until = null, attempt = attempt - 1 where {FENCE}"
STATE = "select state, result, error from jobs where id = $1"


class LostLease(FluidcrewError):
    """Another worker has the job now; what this one did must not be recorded."""


@dataclass(frozen=True, slots=True)
class Job:
    """A claimed job. `attempt` is the fence: only its holder may record a result."""

    id: UUID
    kind: str
    ref: str
    company: str
    payload: dict[str, Any]
    attempt: int
    context: Context


@dataclass(frozen=True, slots=True)
class JobState:
    """`state` is queued, running, done or failed; `failure` tells why a failed one was refused."""

    state: str
    result: dict[str, Any] | None
    error: str | None

    @property
    def ended(self) -> bool:
        return self.state in ("done", "failed")

    @property
    def failure(self) -> Failure | None:
        return Failure.model_validate(self.result["failure"]) if self.result and "failure" in self.result else None


Work = Callable[[Job], Awaitable[None]]


@dataclass(slots=True)
class _Kind:
    work: Work
    max_attempts: int
    lease: float
    free: int


class Jobs:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._worker = uuid4()
        self._kinds: dict[str, _Kind] = {}
        self._due = asyncio.Event()
        self._stopped = False
        self._changed: dict[UUID, set[asyncio.Event]] = {}  # who waits in this process

    def register(
        self, kind: str, work: Work, *, concurrency: int = 4, max_attempts: int = 5, lease: float = 15.0
    ) -> None:
        """Do jobs of this kind here. `lease` in seconds; it is renewed while the work runs."""
        self._kinds[kind] = _Kind(work, max_attempts, lease, concurrency)

    async def enqueue(
        self, tx: Tx, kind: str, ref: str, payload: dict[str, Any], *, company: str, due_in: float = 0.0
    ) -> UUID:
        """Commit a job with the transaction, or join the active one of the same kind and ref. Returns its id."""
        id: UUID = await tx.conn.fetchval(ENQUEUE, uuid4(), company, kind, ref, payload, asdict(tx.context), due_in)
        tx.after_commit(self._ring)
        return id

    async def _ring(self) -> None:
        self._due.set()

    async def finish(self, tx: Tx, job: Job, result: dict[str, Any]) -> None:
        """Record the result with the transaction of its effects. Raises LostLease when the job is another's."""
        if not await tx.conn.fetchval(FINISH, *self._fence(job), result):
            raise LostLease(f"job {job.id} attempt {job.attempt} was taken over")
        tx.after_commit(lambda: self._tell(job.id))

    def _fence(self, job: Job) -> tuple[UUID, int, UUID]:
        """An attempt that was handed back is counted again by another worker."""
        return job.id, job.attempt, self._worker

    async def _tell(self, id: UUID) -> None:
        for event in self._changed.get(id, ()):
            event.set()

    async def wait(self, id: UUID, timeout: float) -> JobState:
        """The job's state once it has ended, or as it is after `timeout` seconds or when this process stops."""
        event = asyncio.Event()
        self._changed.setdefault(id, set()).add(event)
        deadline = asyncio.get_running_loop().time() + timeout
        try:
            while True:
                event.clear()  # before the look: what changes after it is told
                row = await self._pool.fetchrow(STATE, id)
                if row is None:
                    raise Rejection(Code.NOT_FOUND, f"there is no job {id}")
                state = JobState(row["state"], row["result"], row["error"])
                left = deadline - asyncio.get_running_loop().time()
                if state.ended or left <= 0 or self._stopped:
                    return state
                try:
                    await asyncio.wait_for(event.wait(), min(left, POLL))  # the worker may be another process
                except TimeoutError:
                    continue
        finally:
            self._changed[id].discard(event)
            if not self._changed[id]:
                del self._changed[id]

    async def run(self, stop: asyncio.Event) -> None:
        """Claim and do what is due, until told to stop; what is unfinished then is handed back."""
        running: set[asyncio.Task[None]] = set()
        while not stop.is_set():
            try:
                for kind in self._kinds:
                    for job in await self._claim(kind):
                        task = asyncio.create_task(self._do(job), name=f"job.{job.kind}")
                        running.add(task)
                        task.add_done_callback(running.discard)
            except CONNECTION_LOST as error:
                log.warning("jobs.database_gone", error=str(error))
            await self._wait_for_work(stop)
        self._stopped = True
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _wait_for_work(self, stop: asyncio.Event) -> None:
        waiting = [asyncio.create_task(e.wait()) for e in (stop, self._due)]
        await asyncio.wait(waiting, timeout=POLL, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        self._due.clear()

    async def _claim(self, name: str) -> list[Job]:
        kind = self._kinds[name]
        if kind.free <= 0:
            return []
        rows = await self._pool.fetch(CLAIM, name, kind.free, self._worker, kind.lease)
        kind.free -= len(rows)
        return [
            Job(r["id"], r["kind"], r["ref"], r["company_id"], r["payload"], r["attempt"], Context.of(r["context"]))
            for r in rows
        ]

    async def _do(self, job: Job) -> None:
        kind = self._kinds[job.kind]
        structlog.contextvars.bind_contextvars(job=str(job.id), request_id=job.context.request_id)  # of this task
        work = asyncio.create_task(self._work(job, kind))
        beat = asyncio.create_task(self._beat(job, kind.lease, work))
        try:
            await self._attempt(job, kind, work)
        except asyncio.CancelledError:
            await self._pool.execute(HAND_BACK, *self._fence(job))
            raise
        except CONNECTION_LOST as error:
            log.warning("job.database_gone", job=str(job.id), error=str(error))  # the lease ends, another attempt comes
        finally:
            beat.cancel()
            kind.free += 1
            self._due.set()
            await self._tell(job.id)

    async def _work(self, job: Job, kind: _Kind) -> None:
        with telemetry.span(f"job {job.kind}", SpanKind.CONSUMER, job.context.traceparent):
            await (kind.work(job) if job.attempt <= kind.max_attempts + DEATHS else _deadly(job))

    async def _attempt(self, job: Job, kind: _Kind, work: asyncio.Future[None]) -> None:
        outcome = "done"
        try:
            await work
        except LostLease:
            outcome = "lost"
        except RetryLater as later:
            outcome = await self._again(job, kind, later, later.delay, later.failure)
        except Rejection as refusal:
            outcome = "failed"
            await self._fail(job, refusal.failure)
        except CONNECTION_LOST:
            raise
        except Exception as error:
            log.exception("job.failed", kind=job.kind, attempt=job.attempt)
            telemetry.report(error, job=job.kind)
            delay = random.uniform(0.1, min(BACKOFF_CAP, 0.5 * 2**job.attempt))
            failure = Failure(code=Code.INTERNAL, message=f"{type(error).__name__}: {error}")
            outcome = await self._again(job, kind, error, delay, failure)
        ENDED.labels(job.kind, outcome).inc()

    async def _again(self, job: Job, kind: _Kind, error: Exception, delay: float, failure: Failure) -> str:
        if job.attempt >= kind.max_attempts:
            await self._fail(job, failure)
            return "failed"
        await self._pool.execute(RETRY, *self._fence(job), storable(str(error))[:2000], delay)
        return "retried"

    async def _fail(self, job: Job, failure: Failure) -> None:
        message = storable(failure.message)[:2000]
        result = {"failure": failure.model_copy(update={"message": message}).model_dump(mode="json")}
        await self._pool.execute(FAIL, *self._fence(job), message, result)

    async def _beat(self, job: Job, lease: float, work: asyncio.Future[None]) -> None:
        while True:
            await asyncio.sleep(lease / 4)
            try:
                if not await self._pool.fetchval(BEAT, *self._fence(job), lease):
                    work.cancel()
                    return
            except CONNECTION_LOST as error:
                log.warning("job.beat_failed", job=str(job.id), error=str(error))


async def _deadly(job: Job) -> None:
    """Instead of the work, when it seems to kill its workers: a job like that must not go round for ever."""
    raise Rejection(
        Code.INTERNAL, f"its worker died or stalled in most of {job.attempt - 1} attempts; it is not tried again"
    )
