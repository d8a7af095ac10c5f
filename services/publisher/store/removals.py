"""The SQL of removals: what retention may take, and the record of what was taken."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from chassis.postgres import Connection, Pool
from contracts.page import Page
from contracts.plan import ArtifactKind
from contracts.previews import ListRemovals, Removal
from services.publisher.domain.retention import Kept
from services.publisher.store.order import order
from services.publisher.store.previews import IS_SHARED

ORDER: Mapping[str, str] = {"at": "at", "size": "size", "version": "version", "what": "what"}
GONE = "id, company_id, task_id, run_id, node_id, name, kind, version, size"

#: A node's newest site, as the newest run of the task made it or took it over; or the run before, while the newest has not
#: got so far.
IS_NAMED = """
exists (select from artifacts a where a.preview_id = p.id and a.run_id is not null
        and (a.task_id is null or a.run_id in (
            select r.run_id from artifacts r where r.company_id = a.company_id and r.task_id = a.task_id
            and r.run_id is not null group by r.run_id order by max(r.created_at) desc limit 2))
        and not exists (select from artifacts n where n.company_id = a.company_id and n.producer = a.producer
                        and n.slot = a.slot and n.version > a.version))
"""
#: Sites that are full of what is pinned or shared must not hide those behind them: found is only where something may go.
CROWDED = f"""
select p.company_id, p.task_id from previews p join sites s on s.company_id = p.company_id and s.task_id = p.task_id
where ($3::text is null or p.company_id = $3) and ($4::uuid is null or p.task_id = $4)
  and p.state in ('ready', 'failed') and p.version is distinct from s.latest and p.version is distinct from s.approved
  and not {IS_SHARED} and not {IS_NAMED} and s.version > $1
  and (select count(*) from previews n where n.company_id = p.company_id and n.task_id = p.task_id
       and n.version > p.version and (p.state = 'failed' or n.state = 'ready')) >= $1
group by p.company_id, p.task_id order by min(p.created_at), p.task_id limit $2
"""
#: Nothing keeps an artifact: no link leads to it, no version of a site is made of it.
FREE = """
not exists (select from shares h where h.artifact_id = a.id and h.revoked_at is null and h.expires_at > clock_timestamp())
and not exists (select from previews p where p.node_id = a.node_id and p.attempt = a.attempt
                and p.state <> 'failed' and p.tree ? coalesce(a.path, ''))
"""
#: Artifacts that $1 newer versions have followed, and that nothing keeps. Previews go with their sites' versions.
OUTDATED = """
with crowded as (
    select distinct company_id, producer, slot from artifacts
    where version > $1 and kind <> 'preview' and ($3::text is null or company_id = $3)
      and ($4::uuid is null or task_id = $4))
select {columns} from crowded c join artifacts a using (company_id, producer, slot)
where (select count(*) from artifacts n where n.company_id = a.company_id and n.producer = a.producer
       and n.slot = a.slot and n.version > a.version) >= $1
  and {free}
order by a.created_at, a.id limit $2
"""
#: Who shares an artifact locks it first: what was shared before we had the lock is seen by the statement that comes then.
REMOVE_FREE = f"delete from artifacts a where a.id = any($1) and {FREE} returning {GONE}"
OF_DELETED_TASKS = """
from deleted_tasks d join {table} x on x.company_id = d.company_id and x.task_id = d.task_id
where ($2::text is null or d.company_id = $2) and ($3::uuid is null or d.task_id = $3)
"""
#: Sites of deleted tasks with versions that nobody is publishing any more.
ABANDONED = f"""
select x.company_id, x.task_id {OF_DELETED_TASKS.format(table="previews")} and x.state in ('ready', 'failed')
group by x.company_id, x.task_id order by min(x.created_at), x.task_id limit $1
"""
#: Artifacts of deleted tasks. Previews go with their sites' versions.
LEFT_BEHIND = f"""
select {{columns}} {OF_DELETED_TASKS.format(table="artifacts")} and x.kind <> 'preview' order by x.created_at, x.id limit $1
"""


@dataclass(frozen=True, slots=True)
class SiteKey:
    company_id: str
    task_id: UUID


@dataclass(frozen=True, slots=True)
class Gone:
    """An artifact that was removed, or would be."""

    id: UUID
    company_id: str
    task_id: UUID | None
    run_id: UUID | None
    node_id: UUID | None
    name: str
    kind: ArtifactKind
    version: int
    size: int | None


class RemovalStore:
    """Statements on one connection, or on the pool for reads that need no transaction."""

    def __init__(self, db: Connection | Pool) -> None:
        self._db = db

    async def crowded(self, keep: int, most: int, company: str | None, task_id: UUID | None) -> list[SiteKey]:
        """Sites with versions beyond those that are kept (domain/retention.py), and that nothing else keeps."""
        rows = await self._db.fetch(CROWDED, keep, most, company, task_id)
        return [SiteKey(**row) for row in rows]

    async def versions(self, company: str, task_id: UUID) -> list[Kept]:
        """Of a site, the newest first."""
        rows = await self._db.fetch(
            f"""
            select p.id, p.run_id, p.version, p.state, s.latest is not distinct from p.version as latest,
                   s.approved is not distinct from p.version as approved,
                   {IS_SHARED} as shared, {IS_NAMED} as named, coalesce(p.size, p.zip_size) as size
            from previews p join sites s on s.company_id = p.company_id and s.task_id = p.task_id
            where p.company_id = $1 and p.task_id = $2 order by p.version desc
            """,
            *(company, task_id),
        )
        return [Kept(**row) for row in rows]

    async def remove_preview(self, id: UUID) -> list[Gone]:
        """With its manifest; what it was listed as."""
        rows = await self._db.fetch(f"delete from artifacts where preview_id = $1 returning {GONE}", id)
        await self._db.execute("delete from previews where id = $1", id)
        return [_gone(row) for row in rows]

    async def remove_artifact(self, id: UUID) -> Gone:
        row = await self._db.fetchrow(f"delete from artifacts where id = $1 returning {GONE}", id)
        assert row is not None, "it is locked"
        return _gone(row)

    async def outdated(self, keep: int, most: int, company: str | None, task_id: UUID | None) -> list[Gone]:
        columns = ", ".join(f"a.{name}" for name in GONE.split(", "))
        rows = await self._db.fetch(OUTDATED.format(columns=columns, free=FREE), keep, most, company, task_id)
        return [_gone(row) for row in rows]

    async def remove_outdated(self, keep: int, most: int, company: str | None, task_id: UUID | None) -> list[Gone]:
        """In a transaction."""
        found = OUTDATED.format(columns="a.id", free=FREE)
        rows = await self._db.fetch(f"{found} for update of a skip locked", keep, most, company, task_id)
        return await self.remove_free([row["id"] for row in rows])

    async def remove_free(self, ids: Sequence[UUID]) -> list[Gone]:
        """Those of them that nothing keeps. They are locked."""
        return [_gone(row) for row in await self._db.fetch(REMOVE_FREE, list(ids))]

    async def abandoned(self, most: int, company: str | None, task_id: UUID | None) -> list[SiteKey]:
        return [SiteKey(**row) for row in await self._db.fetch(ABANDONED, most, company, task_id)]

    async def left_behind(self, most: int, company: str | None, task_id: UUID | None) -> list[Gone]:
        columns = ", ".join(f"x.{name}" for name in GONE.split(", "))
        rows = await self._db.fetch(LEFT_BEHIND.format(columns=columns), most, company, task_id)
        return [_gone(row) for row in rows]

    async def remove_left_behind(self, most: int, company: str | None, task_id: UUID | None) -> list[Gone]:
        """In a transaction. With the links that led to them."""
        found = f"{LEFT_BEHIND.format(columns='x.id')} for update of x skip locked"
        removed = f"delete from artifacts where id in ({found}) returning {GONE}"
        return [_gone(row) for row in await self._db.fetch(removed, most, company, task_id)]

    async def note(self, company: str, removals: Iterable[Removal], by: str | None) -> None:
        await self._db.executemany(
            """
            insert into removals (company_id, what, what_id, task_id, version, size, why, by)
            values ($1, $2, $3, $4, $5, $6, $7, $8)
            """,
            [(company, r.what, r.id, r.task_id, r.version, r.size, r.why, by) for r in removals],
        )

    async def page(self, ask: ListRemovals) -> Page[Removal]:
        condition = "company_id = $1 and ($2::uuid is null or task_id = $2)"
        rows = await self._db.fetch(
            f"""
            select what, what_id as id, task_id, version, size, why, at from removals where {condition}
            order by {order(ask.order_by, ORDER, "-at", "removals.id desc")} limit $3 offset $4
            """,
            *(ask.company, ask.task_id, ask.limit, ask.offset),
        )
        total = await self._db.fetchval(f"select count(*) from removals where {condition}", ask.company, ask.task_id)
        return Page[Removal](items=[Removal(**row) for row in rows], total=total)


def _gone(row: asyncpg.Record) -> Gone:
    return Gone(**(dict(row) | {"kind": ArtifactKind(row["kind"])}))
