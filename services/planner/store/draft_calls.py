"""The SQL of what a draft has paid for until it has ended."""

from __future__ import annotations

from uuid import UUID

from chassis.postgres import Connection, Pool
from services.planner.domain.drafted import Call


class DraftCallStore:
    """Statements on one connection, or on the pool."""

    def __init__(self, db: Connection | Pool) -> None:
        self._db = db

    async def keep(self, job_id: UUID, call: Call) -> None:
        await self._db.execute(
            "insert into draft_calls (job_id, call) values ($1, $2)", job_id, call.model_dump(mode="json")
        )

    async def calls(self, job_id: UUID) -> list[Call]:
        rows = await self._db.fetch("select call from draft_calls where job_id = $1 order by id", job_id)
        return [Call.model_validate(row["call"]) for row in rows]

    async def forget(self, job_id: UUID) -> None:
        await self._db.execute("delete from draft_calls where job_id = $1", job_id)
