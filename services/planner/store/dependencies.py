"""The SQL of which tasks wait for which."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

from chassis.postgres import Connection, Pool
from contracts.planner import Task
from services.planner.store.tasks import TASK, shown


class DependencyStore:
    """Statements on one connection, or on the pool for reads that need no transaction."""

    def __init__(self, db: Connection | Pool) -> None:
        self._db = db

    async def alone(self, company: str) -> None:
        """Nobody else adds dependencies in this company until the commit: two halves of a cycle would not see each other."""
        lock = "select pg_advisory_xact_lock(hashtextextended($1, 0))"
        await self._db.execute(lock, f"planner.dependencies.{company}")

    async def hold(self, company: str, ids: Sequence[UUID]) -> set[UUID]:
        """Those of the tasks that exist. Until the commit none of them is deleted or completed, so that whoever completes
        one afterwards finds out that it was waited for."""
        rows = await self._db.fetch(
            """
            select id from tasks where company_id = $1 and id = any($2::uuid[]) and deleted_at is null
            order by id for key share
            """,
            *(company, list(ids)),
        )
        return {row["id"] for row in rows}

    async def upstream(self, ids: Sequence[UUID]) -> Mapping[UUID, Collection[UUID]]:
        """What these tasks wait for, what that waits for, and so on."""
        rows = await self._db.fetch(
            """
            with recursive up as (
                select task_id, depends_on from task_dependencies where task_id = any($1::uuid[])
                union
                select d.task_id, d.depends_on from task_dependencies d join up on d.task_id = up.depends_on
            )
            select task_id, array_agg(depends_on) as needs from up group by task_id
            """,
            list(ids),
        )
        return {row["task_id"]: row["needs"] for row in rows}

    async def titles(self, ids: Collection[UUID]) -> Mapping[UUID, str]:
        rows = await self._db.fetch("select id, title from tasks where id = any($1::uuid[])", list(ids))
        return {row["id"]: row["title"] for row in rows}

    async def add(self, company: str, task_id: UUID, depends_on: Sequence[UUID]) -> list[UUID]:
        """Those that are new, in the given order."""
        rows = await self._db.fetch(
            """
            insert into task_dependencies (task_id, depends_on, company_id)
            select $1, dep, $3 from unnest($2::uuid[]) as dep on conflict do nothing returning depends_on
            """,
            *(task_id, list(depends_on), company),
        )
        new = {row["depends_on"] for row in rows}
        return [id for id in depends_on if id in new]

    async def remove(self, task_id: UUID, depends_on: UUID) -> bool:
        drop = "delete from task_dependencies where task_id = $1 and depends_on = $2 returning true"
        return bool(await self._db.fetchval(drop, task_id, depends_on))

    async def forget(self, task_id: UUID) -> None:
        """A task that is deleted waits for nobody, and nobody for it."""
        await self._db.execute("delete from task_dependencies where task_id = $1 or depends_on = $1", task_id)

    async def set_waiting(self, task_id: UUID, waiting: bool) -> None:
        await self._db.execute("update tasks set waiting = $2 where id = $1", task_id, waiting)

    async def is_needed(self, task_id: UUID) -> bool:
        needed = "select exists (select from task_dependencies where depends_on = $1)"
        return bool(await self._db.fetchval(needed, task_id))

    async def dependencies(self, task_id: UUID) -> list[Task]:
        return await self._tasks("d.depends_on = t.id where d.task_id = $1", task_id)

    async def dependents(self, task_id: UUID) -> list[Task]:
        return await self._tasks("d.task_id = t.id where d.depends_on = $1", task_id)

    async def _tasks(self, joined: str, task_id: UUID) -> list[Task]:
        rows = await self._db.fetch(f"{TASK} join task_dependencies d on {joined} order by d.created_at, t.id", task_id)
        return [shown(row) for row in rows]
