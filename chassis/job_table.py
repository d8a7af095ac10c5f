"""The rows of jobs: queued, claimed with a lease, fenced by worker and attempt, ended."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID, uuid4

from chassis.context import Context
from chassis.postgres import Pool, storable
from chassis.unit_of_work import Tx
from contracts.errors import Code, Failure, FluidcrewError, Rejection, RetryLater

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
returning id, kind, ref, company_id, payload, context, attempt, waits
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
PUT_OFF = f"""
update jobs set state = 'queued', lease_until = null, error = $4, attempt = attempt - 1, waits = waits + 1,
    due_at = clock_timestamp() + make_interval(secs => $5) where {FENCE}
"""
FAIL = f"""
update jobs set state = 'failed', error = $4, result = $5, ended_at = clock_timestamp(), lease_until = null where {FENCE}
"""
HAND_BACK = f"update jobs set state = 'queued', lease_until = null, attempt = attempt - 1 where {FENCE}"
STATE = "select state, result, error from jobs where id = $1"

FIRST_PAUSE, DOUBLED = 0.2, 10  # seconds; and how often they grow


class NotYet(RetryLater):
    """What the job needs is not there yet. It waits as long as that takes: this is no failed attempt."""


class LostLease(FluidcrewError):
    """Another worker has the job now; what this one did must not be recorded."""


@dataclass(frozen=True, slots=True)
class Job:
    """A claimed job. `attempt` is the fence: only its holder may record a result. `waits` counts the attempts before that
    found that what the job needs is not there yet."""

    id: UUID
    kind: str
    ref: str
    company: str
    payload: dict[str, Any]
    attempt: int
    context: Context
    waits: int = 0

    def pause(self, longest: float) -> float:
        """Seconds until it is looked again whether what it needs is there: each time twice as many."""
        return min(longest, FIRST_PAUSE * 2.0 ** min(self.waits, DOUBLED))


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


class JobTable:
    """As one worker writes it: what it did not claim, or no longer holds, it cannot change."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._worker = uuid4()

    async def enqueue(
        self, tx: Tx, kind: str, ref: str, payload: dict[str, Any], *, company: str, due_in: float
    ) -> UUID:
        id: UUID = await tx.conn.fetchval(ENQUEUE, uuid4(), company, kind, ref, payload, asdict(tx.context), due_in)
        return id

    async def state(self, id: UUID) -> JobState:
        row = await self._pool.fetchrow(STATE, id)
        if row is None:
            raise Rejection(Code.NOT_FOUND, f"there is no job {id}")
        return JobState(row["state"], row["result"], row["error"])

    async def claim(self, kind: str, most: int, lease: float) -> list[Job]:
        rows = await self._pool.fetch(CLAIM, kind, most, self._worker, lease)
        return [
            Job(
                r["id"],
                r["kind"],
                r["ref"],
                r["company_id"],
                r["payload"],
                r["attempt"],
                Context.of(r["context"]),
                r["waits"],
            )
            for r in rows
        ]

    async def renew(self, job: Job, lease: float) -> bool:
        """False when another has it."""
        return bool(await self._pool.fetchval(BEAT, *self._fence(job), lease))

    async def finish(self, tx: Tx, job: Job, result: dict[str, Any]) -> None:
        if not await tx.conn.fetchval(FINISH, *self._fence(job), result):
            raise LostLease(f"job {job.id} attempt {job.attempt} was taken over")

    async def retry(self, job: Job, error: str, delay: float) -> None:
        await self._pool.execute(RETRY, *self._fence(job), storable(error)[:2000], delay)

    async def put_off(self, job: Job, error: str, delay: float) -> None:
        """The attempt does not count."""
        await self._pool.execute(PUT_OFF, *self._fence(job), storable(error)[:2000], delay)

    async def fail(self, job: Job, failure: Failure) -> None:
        message = storable(failure.message)[:2000]
        result = {"failure": failure.model_copy(update={"message": message}).model_dump(mode="json")}
        await self._pool.execute(FAIL, *self._fence(job), message, result)

    async def hand_back(self, job: Job) -> None:
        await self._pool.execute(HAND_BACK, *self._fence(job))

    def _fence(self, job: Job) -> tuple[UUID, int, UUID]:
        """An attempt that was handed back is counted again by another worker."""
        return job.id, job.attempt, self._worker
