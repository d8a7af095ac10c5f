"""The SQL of artifacts: versions of what nodes and people deliver."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg

from chassis.postgres import Connection, Pool
from contracts.artifacts import Artifact, ArtifactCounts, ListArtifacts, Visibility
from contracts.page import Page
from contracts.plan import ArtifactKind
from contracts.previews import PreviewState
from services.publisher.domain.addresses import Origin
from services.publisher.store.order import order

COLUMNS = """
a.id, a.company_id, a.project_id, a.task_id, a.run_id, a.node_id, a.node_key, a.attempt, a.kind, a.name, a.path,
a.content_type, a.size, a.sha256, a.url, a.version, a.visibility, a.made_by, a.summary, a.preview_id, a.created_at
"""
ARTIFACT = f"select {COLUMNS}, p.version as preview_version, p.task_id as site_id, p.state as preview_state, s.label"
FROM = """
from artifacts a left join previews p on p.id = a.preview_id
     left join sites s on s.company_id = p.company_id and s.task_id = p.task_id
"""
IS_FOLLOWED = """
exists (select from artifacts n where n.company_id = a.company_id and n.producer = a.producer and n.slot = a.slot
        and n.version > a.version)
"""
MATCHES = f"""
a.company_id = $1 and ($2::text is null or a.project_id = $2) and ($3::uuid is null or a.task_id = $3)
and ($4::uuid is null or a.run_id = $4) and ($5::uuid is null or a.node_id = $5)
and ($6::uuid[] is null or a.node_id = any($6)) and ($7::text is null or a.kind = $7)
and ($8::text is null or a.content_type = $8) and ($9::text is null or strpos(lower(a.name), lower($9)) > 0)
and ($10::text is null or a.visibility = $10) and ($11::timestamptz is null or a.created_at >= $11)
and ($12::timestamptz is null or a.created_at < $12) and not ($13 and {IS_FOLLOWED})
"""
ORDER: Mapping[str, str] = {
    "created_at": "a.created_at",
    "name": "lower(a.name)",
    "kind": "a.kind",
    "type": "a.kind",
    "size": "a.size",
    "version": "a.version",
}
HOLD = "select pg_advisory_xact_lock(hashtextextended($1, 2))"


@dataclass(frozen=True, slots=True)
class Place:
    """Who delivers: a node of a run, or, without one, the people of a task."""

    company_id: str
    project_id: str
    task_id: UUID | None
    run_id: UUID | None = None
    node_id: UUID | None = None
    node_key: str | None = None
    attempt: int | None = None
    made_by: str | None = None

    @property
    def producer(self) -> str:
        where = f"task {self.task_id}" if self.task_id is not None else f"run {self.run_id}"
        return where if self.node_key is None else f"{where} node {self.node_key}"

    @property
    def story_of(self) -> UUID:
        story = self.run_id or self.task_id
        assert story is not None, "it is made in a run or for a task"
        return story


@dataclass(frozen=True, slots=True)
class NewArtifact:
    """`slot` is what the versions are versions of: the output, a path, an address, the site."""

    id: UUID
    slot: str
    kind: ArtifactKind
    name: str
    visibility: Visibility
    path: str | None = None
    content_type: str | None = None
    size: int | None = None
    sha256: str | None = None
    url: str | None = None
    summary: str | None = None
    preview_id: UUID | None = None


class ArtifactStore:
    """Statements on one connection, or on the pool for reads that need no transaction."""

    def __init__(self, db: Connection | Pool, origin: Origin) -> None:
        self._db = db
        self._origin = origin

    async def hold(self, place: Place) -> None:
        """Versions of one producer are numbered one after the other."""
        await self._db.execute(HOLD, f"{place.company_id} {place.producer}")

    async def add(self, place: Place, new: NewArtifact) -> int | None:
        """Its version; None when the attempt has delivered it before. The producer is held."""
        version: int | None = await self._db.fetchval(
            """
            insert into artifacts (id, company_id, project_id, task_id, run_id, node_id, node_key, attempt, producer, slot,
                                   version, kind, name, path, content_type, size, sha256, url, visibility, made_by, summary,
                                   preview_id)
            select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10,
                   coalesce((select max(version) from artifacts
                             where company_id = $2 and producer = $9 and slot = $10), 0) + 1,
                   $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21
            on conflict (node_id, attempt, slot) where node_id is not null do nothing returning version
            """,
            *(new.id, place.company_id, place.project_id, place.task_id, place.run_id, place.node_id, place.node_key),
            *(place.attempt, place.producer, new.slot),
            *(new.kind, new.name, new.path, new.content_type, new.size, new.sha256, new.url, new.visibility),
            *(place.made_by, new.summary, new.preview_id),
        )
        return version

    async def of_earlier(self, company: str, node_id: UUID) -> list[NewArtifact]:
        """What the latest attempt of a node has delivered, to be delivered anew; ids are still the old ones."""
        rows = await self._db.fetch(
            """
            select id, slot, kind, name, visibility, path, content_type, size, sha256, url, summary, preview_id
            from artifacts a where company_id = $1 and node_id = $2
              and attempt = (select max(attempt) from artifacts where company_id = $1 and node_id = $2)
            order by slot
            """,
            *(company, node_id),
        )
        return [
            NewArtifact(**(dict(r) | {"kind": ArtifactKind(r["kind"]), "visibility": Visibility(r["visibility"])}))
            for r in rows
        ]

    async def artifact(self, company: str, id: UUID) -> Artifact | None:
        row = await self._db.fetchrow(f"{ARTIFACT} {FROM} where a.company_id = $1 and a.id = $2", company, id)
        return None if row is None else self._artifact(row)

    async def lock(self, company: str, id: UUID) -> Artifact | None:
        await self._db.execute("select from artifacts where company_id = $1 and id = $2 for update", company, id)
        return await self.artifact(company, id)

    async def page(self, ask: ListArtifacts) -> Page[Artifact]:
        matches = (
            *(ask.company, ask.project, ask.task_id, ask.run_id, ask.node_id, ask.node_ids, ask.kind, ask.content_type),
            *(ask.name_contains, ask.visibility, ask.made_from, ask.made_to, ask.latest),
        )
        rows = await self._db.fetch(
            f"""
            {ARTIFACT} {FROM} where {MATCHES}
            order by {order(ask.order_by, ORDER, "-created_at", "a.name, a.id")} limit $14 offset $15
            """,
            *(*matches, ask.limit, ask.offset),
        )
        total = await self._db.fetchval(f"select count(*) from artifacts a where {MATCHES}", *matches)
        return Page[Artifact](items=[self._artifact(row) for row in rows], total=total)

    async def counts(self, company: str, run_id: UUID) -> ArtifactCounts:
        rows = await self._db.fetch(
            """
            select kind, count(*)::int as n from artifacts where company_id = $1 and run_id = $2 group by kind order by kind
            """,
            *(company, run_id),
        )
        by_kind = {ArtifactKind(row["kind"]): row["n"] for row in rows}
        return ArtifactCounts(total=sum(by_kind.values()), by_kind=by_kind)

    async def show_to(self, artifact: Artifact, visibility: Visibility) -> None:
        """With it the preview that it is, wherever that was delivered."""
        await self._db.execute(
            "update artifacts set visibility = $3 where id = $1 or preview_id = $2",
            *(artifact.id, artifact.preview_id, visibility),
        )
        await self._db.execute("update previews set visibility = $2 where id = $1", artifact.preview_id, visibility)

    async def in_use(self, artifact: Artifact) -> str | None:
        """Why it must stay; None when nothing keeps it."""
        row = await self._db.fetchrow(
            """
            select exists (select from shares where artifact_id = $1 and revoked_at is null
                           and expires_at > clock_timestamp()) as shared,
                   (select p.version from previews p where p.node_id = $2 and p.attempt = $3 and p.state <> 'failed'
                    and p.tree ? $4 limit 1) as site
            """,
            *(artifact.id, artifact.node_id, artifact.attempt, artifact.path or ""),
        )
        assert row is not None, "it always has one row"
        if row["shared"]:
            return "it is shared by a link; revoke the link first"
        if row["site"] is not None:
            return f"it is a file of version {row['site']} of the preview; remove that first"
        return None

    async def remove(self, id: UUID) -> None:
        await self._db.execute("delete from artifacts where id = $1", id)

    def _artifact(self, row: asyncpg.Record) -> Artifact:
        fields: dict[str, Any] = dict(row)
        version, site, state, label = (
            fields.pop(name) for name in ("preview_version", "site_id", "preview_state", "label")
        )
        if state == PreviewState.READY:
            place = (fields["company_id"], fields["project_id"], site)
            fields["url"] = self._origin.version(label, version, *place)
        return Artifact(**fields)
