"""The SQL of deleted tasks: which they are, and what of theirs is left."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from chassis.postgres import Connection, Pool


class Unshared(NamedTuple):
    """A link to a preview that was open until now."""

    share_id: UUID
    preview_id: UUID
    run_id: UUID | None
    version: int


class DeletionStore:
    """Statements on one connection, or on the pool for reads that need no transaction."""

    def __init__(self, db: Connection | Pool) -> None:
        self._db = db

    async def note(self, company: str, task_id: UUID) -> None:
        await self._db.execute(
            "insert into deleted_tasks (company_id, task_id) values ($1, $2) on conflict do nothing", company, task_id
        )

    async def has(self, company: str, task_id: UUID | None) -> bool:
        """A statement of its own, after what was locked: what was deleted while we waited for the lock counts."""
        found = "select exists (select from deleted_tasks where company_id = $1 and task_id = $2)"
        return bool(await self._db.fetchval(found, company, task_id))

    async def revoke_shares(self, company: str, task_id: UUID) -> list[Unshared]:
        """All that are open; which of them led to a preview."""
        rows = await self._db.fetch(
            """
            with revoked as (
                update shares set revoked_at = clock_timestamp()
                where company_id = $1 and revoked_at is null and expires_at > clock_timestamp()
                  and (preview_id in (select id from previews where company_id = $1 and task_id = $2)
                       or artifact_id in (select id from artifacts where company_id = $1 and task_id = $2))
                returning id, preview_id)
            select r.id as share_id, r.preview_id, p.run_id, p.version from revoked r join previews p on p.id = r.preview_id
            order by p.version, r.id
            """,
            *(company, task_id),
        )
        return [Unshared(**row) for row in rows]
