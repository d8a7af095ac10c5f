"""The SQL of the reconciler: runs nobody has heard of for long, and intentions nobody is about to carry out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from chassis.postgres import Connection, Pool
from services.planner.domain.drift import Fix

LOCK = "select pg_try_advisory_lock(hashtext('planner.reconciler'))"
OLD = "clock_timestamp() - make_interval(secs => $1)"
NOT_DONE = """exists (select from task_dependencies d join tasks x on x.id = d.depends_on
    where d.task_id = t.id and (x.status <> 'completed' or x.updated_at > clock_timestamp() - make_interval(secs => $1)))"""
#: per kind: the tasks, with the job that should be under way
LEFT: Mapping[Fix, tuple[str, str]] = {
    Fix.ORDER_LEFT: (
        f"""from tasks t where t.control_asked_at < {OLD} and t.deleted_at is null and exists (
            select from task_runs r where r.task_id = t.id and r.state in ('accepted', 'running', 'paused')
            and r.told_order is distinct from t.order_id) and t.order_id is not null""",
        "'control'",
    ),
    Fix.START_LEFT: (
        f"""from tasks t join plans p on p.task_id = t.id where t.auto_start and not t.waiting and t.deleted_at is null
            and t.updated_at < {OLD} and t.status = 'ready' and p.status = 'ready'
            and not t.pause_requested and not t.cancel_requested and not {NOT_DONE}""",
        "'start', 'draft'",
    ),
    Fix.RELEASE_LEFT: (
        f"from tasks t where t.waiting and t.deleted_at is null and t.updated_at < {OLD} and not {NOT_DONE}",
        "'start', 'draft'",
    ),
}


@dataclass(frozen=True, slots=True)
class Silent:
    """A run that should have ended or been heard of. `heard_at` fences the repair: whoever heard more comes first."""

    company: str
    task_id: UUID
    run_id: UUID
    heard_at: datetime


@dataclass(frozen=True, slots=True)
class Left:
    company: str
    task_id: UUID


class DriftStore:
    def __init__(self, db: Connection | Pool) -> None:
        self._db = db

    async def silent_runs(self, seconds: float, most: int) -> list[Silent]:
        rows = await self._db.fetch(
            f"""
            select company_id, task_id, run_id, heard_at from task_runs
            where state in ('asked', 'accepted', 'running', 'paused') and heard_at < {OLD} order by heard_at limit $2
            """,
            *(seconds, most),
        )
        return [Silent(*row) for row in rows]

    async def is_still(self, silent: Silent) -> bool:
        found = "select exists (select from task_runs where run_id = $1 and heard_at = $2)"
        return bool(await self._db.fetchval(found, silent.run_id, silent.heard_at))

    async def left(self, kind: Fix, seconds: float, most: int) -> list[Left]:
        """Tasks whose intention has been lying there for so long, without a job that will see to it."""
        tasks, jobs = LEFT[kind]
        rows = await self._db.fetch(
            f"""
            select t.company_id, t.id {tasks} and not exists (
                select from jobs j where j.kind in ({jobs}) and j.ref = t.id::text and j.state in ('queued', 'running'))
            order by t.updated_at limit $2
            """,
            *(seconds, most),
        )
        return [Left(*row) for row in rows]


@asynccontextmanager
async def alone(pool: Pool) -> AsyncIterator[bool]:
    """Whether no other process is at it; its connection's way back into the pool gives the lock back."""
    async with pool.acquire() as connection:
        yield bool(await connection.fetchval(LOCK))
