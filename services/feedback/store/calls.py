"""The SQL of reviews under way: what their models have answered, and how often they ended in a surprise."""

from __future__ import annotations

from typing import Any, NamedTuple
from uuid import UUID

from chassis.postgres import Connection, Pool, storable


class SoFar(NamedTuple):
    """What earlier attempts at a review have left. `surprise` is the latest one."""

    answer: dict[str, Any] | None = None
    surprises: int = 0
    surprise: str | None = None


class CallStore:
    """Statements on one connection, or on the pool."""

    def __init__(self, db: Connection | Pool) -> None:
        self._db = db

    async def keep(self, job_id: UUID, company: str, answer: dict[str, Any]) -> dict[str, Any]:
        """What is to be gone on with: the first answer, as every worker that comes after will read it."""
        kept: dict[str, Any] = await self._db.fetchval(
            """
            insert into model_calls as m (job_id, company_id, answer) values ($1, $2, $3)
            on conflict (job_id) do update set answer = coalesce(m.answer, excluded.answer) returning answer
            """,
            *(job_id, company, answer),
        )
        return kept

    async def so_far(self, job_id: UUID) -> SoFar:
        row = await self._db.fetchrow("select answer, surprises, surprise from model_calls where job_id = $1", job_id)
        return SoFar() if row is None else SoFar(*row)

    async def surprised(self, job_id: UUID, company: str, surprise: str) -> int:
        """How often, this time included."""
        count: int = await self._db.fetchval(
            """
            insert into model_calls as m (job_id, company_id, surprises, surprise) values ($1, $2, 1, $3)
            on conflict (job_id) do update set surprises = m.surprises + 1, surprise = excluded.surprise
            returning surprises
            """,
            *(job_id, company, storable(surprise)[:1000]),
        )
        return count

    async def forget(self, job_id: UUID) -> None:
        await self._db.execute("delete from model_calls where job_id = $1", job_id)
