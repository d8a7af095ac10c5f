"""The SQL of what reviewing models have answered, until the review is over."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from chassis.postgres import Connection, Pool


class CallStore:
    """Statements on one connection, or on the pool."""

    def __init__(self, db: Connection | Pool) -> None:
        self._db = db

    async def keep(self, job_id: UUID, company: str, answer: dict[str, Any]) -> dict[str, Any]:
        """What is to be gone on with: the first answer, as every worker that comes after will read it."""
        kept: dict[str, Any] = await self._db.fetchval(
            """
            insert into model_calls as m (job_id, company_id, answer) values ($1, $2, $3)
            on conflict (job_id) do update set company_id = m.company_id returning answer
            """,
            *(job_id, company, answer),
        )
        return kept

    async def answer(self, job_id: UUID) -> dict[str, Any] | None:
        found: dict[str, Any] | None = await self._db.fetchval(
            "select answer from model_calls where job_id = $1", job_id
        )
        return found

    async def forget(self, job_id: UUID) -> None:
        await self._db.execute("delete from model_calls where job_id = $1", job_id)
