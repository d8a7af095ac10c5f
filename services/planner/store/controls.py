"""The SQL of what people ask of tasks, and of which runs have been told."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from chassis.postgres import Connection, Pool
from contracts.planner import TaskControl
from services.planner.domain.control import Order

ACTIVE = "state in ('accepted', 'running', 'paused')"


@dataclass(frozen=True, slots=True)
class Addressee:
    """A run that an order concerns. `confirmed` when the executor is known to have it."""

    run_id: UUID
    confirmed: bool


class ControlStore:
    """Statements on one connection, or on the pool for reads that need no transaction."""

    def __init__(self, db: Connection | Pool) -> None:
        self._db = db

    async def active_run(self, task_id: UUID) -> UUID | None:
        found: UUID | None = await self._db.fetchval(
            f"select run_id from task_runs where task_id = $1 and {ACTIVE} order by ordinal desc limit 1", task_id
        )
        return found

    async def set_flags(self, task_id: UUID, flags: TaskControl) -> None:
        await self._db.execute(
            """
            update tasks set pause_requested = $2, cancel_requested = $3, control_asked_at = $4, control_asked_by = $5,
                updated_at = clock_timestamp()
            where id = $1
            """,
            *(task_id, flags.pause, flags.cancel, flags.asked_at, flags.asked_by),
        )

    async def set_order(self, task_id: UUID, order: Order) -> None:
        await self._db.execute(
            "update tasks set order_id = $2, order_action = $3, order_mode = $4, order_by = $5 where id = $1",
            *(task_id, order.id, order.action, order.mode, order.by),
        )

    async def set_job(self, task_id: UUID, job_id: UUID) -> None:
        await self._db.execute("update tasks set control_job_id = $2 where id = $1", task_id, job_id)

    async def job_of(self, task_id: UUID) -> UUID | None:
        found: UUID | None = await self._db.fetchval("select control_job_id from tasks where id = $1", task_id)
        return found

    async def untold(self, task_id: UUID, order_id: UUID) -> list[Addressee]:
        """Runs that have not ended, or may be about to start, and do not know of this order."""
        rows = await self._db.fetch(
            f"""
            select run_id, state <> 'asked' as confirmed from task_runs
            where task_id = $1 and (state = 'asked' or {ACTIVE}) and told_order is distinct from $2 order by ordinal
            """,
            *(task_id, order_id),
        )
        return [Addressee(*row) for row in rows]

    async def note_told(self, order_id: UUID, run_ids: Collection[UUID]) -> None:
        await self._db.execute(
            "update task_runs set told_order = $1 where run_id = any($2::uuid[])", order_id, list(run_ids)
        )
