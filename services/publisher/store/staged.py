"""The SQL of what attempts have delivered through tools, before they complete."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple
from uuid import UUID

from chassis.postgres import Connection, Pool, affected
from contracts.tool import ToolContext

ONE = "the preview"  # an attempt wants at most one: its slot

OF_ATTEMPT = "node_id = $1 and attempt = $2"

#: Tools of one attempt take turns: what it has written is counted before more is.
HOLD = "select pg_advisory_xact_lock(hashtextextended($1, 1))"


class File(NamedTuple):
    sha256: str
    size: int
    content_type: str
    summary: str | None


@dataclass(frozen=True, slots=True)
class Staged:
    """Files by path, titles of links by address; `entry` of the preview, if one is wanted."""

    files: dict[str, File] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    entry: str | None = None


class OldAttempt(NamedTuple):
    company_id: str
    run_id: UUID
    node_id: UUID
    attempt: int


class Soon(NamedTuple):
    """What an attempt delivers: sizes of files by path, addresses of links, the entry of its preview."""

    files: dict[str, int]
    links: list[str]
    entry: str | None


class StagedStore:
    """Statements on one connection, or on the pool for reads that need no transaction."""

    def __init__(self, db: Connection | Pool) -> None:
        self._db = db

    async def hold(self, place: ToolContext) -> Staged:
        await self._db.execute(HOLD, f"{place.node_id} {place.attempt}")
        return await self.of(place.node_id, place.attempt)

    async def of(self, node_id: UUID, attempt: int) -> Staged:
        rows = await self._db.fetch(
            """
            select kind, slot, name, sha256, size, content_type, summary from staged
            where node_id = $1 and attempt = $2 order by kind, slot
            """,
            *(node_id, attempt),
        )
        files = {r["slot"]: File(*(r[name] for name in File._fields)) for r in rows if r["kind"] == "file"}
        links = {r["slot"]: r["name"] for r in rows if r["kind"] == "link"}
        return Staged(files, links, next((r["name"] for r in rows if r["kind"] == "preview"), None))

    async def add(
        self,
        company: str,
        place: ToolContext,
        kind: Literal["file", "link", "preview"],
        slot: str,
        name: str,
        file: File | None = None,
    ) -> None:
        """In the place of what an earlier use of a tool has said; what a later one has said stays."""
        await self._db.execute(
            """
            insert into staged as s (node_id, attempt, kind, slot, company_id, run_id, name, sha256, size, content_type,
                                     summary, effect)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
            on conflict (node_id, attempt, kind, slot) do update
                set name = excluded.name, sha256 = excluded.sha256, size = excluded.size,
                    content_type = excluded.content_type, summary = excluded.summary, effect = excluded.effect,
                    staged_at = excluded.staged_at
                where s.effect <= excluded.effect
            """,
            *(place.node_id, place.attempt, kind, slot, company, place.run_id, name),
            *(file or (None,) * len(File._fields)),
            place.effect,
        )

    async def clear(self, node_id: UUID, attempt: int) -> int:
        """They are artifacts now, or never will be. How many there were."""
        return affected(await self._db.execute(f"delete from staged where {OF_ATTEMPT}", node_id, attempt))

    async def old(self, seconds: float, most: int) -> list[OldAttempt]:
        """Attempts whose last word is so old."""
        rows = await self._db.fetch(
            """
            select company_id, run_id, node_id, attempt from staged group by company_id, run_id, node_id, attempt
            having max(staged_at) < clock_timestamp() - make_interval(secs => $1) order by max(staged_at) limit $2
            """,
            *(seconds, most),
        )
        return [OldAttempt(**row) for row in rows]

    async def keep(self, node_id: UUID, attempt: int) -> None:
        """As if they had been written just now."""
        await self._db.execute(f"update staged set staged_at = clock_timestamp() where {OF_ATTEMPT}", node_id, attempt)

    async def awaits_collection(self, kind: str, node_id: UUID) -> bool:
        """Whether jobs of this kind are about to add what the node has delivered."""
        found = "select exists (select from jobs where kind = $1 and state in ('queued', 'running') and ref like $2)"
        return bool(await self._db.fetchval(found, kind, f"{node_id}:%"))

    async def was_collected(self, kind: str, node_id: UUID, attempt: int) -> bool:
        """Whether jobs of this kind have added what the attempt has delivered: what is staged came later than that."""
        found = f"""
            select exists (select from artifacts where {OF_ATTEMPT})
                or exists (select from jobs where kind = $3 and ref = $4 and state in ('done', 'failed'))
        """
        return bool(await self._db.fetchval(found, node_id, attempt, kind, f"{node_id}:{attempt}"))

    async def delivered(self, company: str, node_id: UUID, attempt: int) -> Soon:
        """Staged or artifacts already: one statement, for they become artifacts while somebody asks."""
        rows = await self._db.fetch(
            """
            select kind, slot, name, size from staged where company_id = $1 and node_id = $2 and attempt = $3
            union
            select case when a.kind in ('link', 'preview') then a.kind else 'file' end, coalesce(a.url, a.path, ''),
                   coalesce(p.wanted_entry, a.path, a.name), a.size
            from artifacts a left join previews p on p.id = a.preview_id
            where a.company_id = $1 and a.node_id = $2 and a.attempt = $3
              and (a.path is not null or a.kind in ('link', 'preview'))
            """,
            *(company, node_id, attempt),
        )
        files = {row["slot"]: row["size"] for row in rows if row["kind"] == "file"}
        links = sorted(row["slot"] for row in rows if row["kind"] == "link")
        return Soon(files, links, next((row["name"] for row in rows if row["kind"] == "preview"), None))
