"""The SQL of previews: the versions of sites, and the manifests that publish them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

import asyncpg

from chassis.postgres import Connection, Pool
from contracts.artifacts import Visibility
from contracts.page import Page
from contracts.previews import ListPreviews, Preview, PreviewState
from services.publisher.domain.addresses import Origin
from services.publisher.store.order import order
from services.publisher.store.sites import Files

IS_SHARED = """
exists (select from shares h where h.preview_id = p.id and h.revoked_at is null and h.expires_at > clock_timestamp())
"""
PREVIEW = f"""
select p.id, p.company_id, p.project_id, p.task_id, p.run_id, p.node_id, p.version, p.state, p.error, p.entry, p.files,
       p.size, s.latest is not distinct from p.version as latest, s.approved is not distinct from p.version as approved,
       {IS_SHARED} as shared, p.source, p.made_by, p.created_at, p.ready_at, s.label
"""
FROM = "from previews p join sites s on s.company_id = p.company_id and s.task_id = p.task_id"
MATCHES = """
p.company_id = $1 and ($2::uuid is null or p.task_id = $2) and ($3::uuid is null or p.run_id = $3)
and ($4::text is null or p.state = $4)
"""
ORDER: Mapping[str, str] = {"created_at": "p.created_at", "version": "p.version", "state": "p.state", "size": "p.size"}
WHICH: Mapping[str, str] = {"latest": "s.latest", "approved": "s.approved"}

SUBMITTED = """
id, company_id, project_id, task_id, run_id, version, state, source, zip_sha256, zip_size, tree, wanted_entry
"""


@dataclass(frozen=True, slots=True)
class NewPreview:
    """`tree` of files that an attempt wrote, else the ZIP that was sent."""

    id: UUID
    company_id: str
    project_id: str
    task_id: UUID
    version: int
    source: Literal["zip", "files"]
    visibility: Visibility
    zip_sha256: str | None = None
    zip_size: int | None = None
    tree: dict[str, list[Any]] | None = None
    wanted_entry: str | None = None
    run_id: UUID | None = None
    node_id: UUID | None = None
    attempt: int | None = None
    made_by: str | None = None


@dataclass(frozen=True, slots=True)
class Submission:
    """What is to be published: either the ZIP or the tree."""

    id: UUID
    company_id: str
    project_id: str
    task_id: UUID
    run_id: UUID | None
    version: int
    state: PreviewState
    source: Literal["zip", "files"]
    zip_sha256: str | None
    zip_size: int | None
    tree: Files | None
    wanted_entry: str | None

    @property
    def story_of(self) -> UUID:
        return self.run_id or self.task_id


class PreviewStore:
    """Statements on one connection, or on the pool for reads that need no transaction."""

    def __init__(self, db: Connection | Pool, origin: Origin) -> None:
        self._db = db
        self._origin = origin

    async def add(self, new: NewPreview) -> None:
        await self._db.execute(
            """
            insert into previews (id, company_id, project_id, task_id, version, source, visibility, zip_sha256, zip_size,
                                  tree, wanted_entry, entry, run_id, node_id, attempt, made_by)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, coalesce($11, 'index.html'), $12, $13, $14, $15)
            """,
            *(new.id, new.company_id, new.project_id, new.task_id, new.version, new.source, new.visibility),
            *(new.zip_sha256, new.zip_size, new.tree, new.wanted_entry),
            *(new.run_id, new.node_id, new.attempt, new.made_by),
        )

    async def preview(self, company: str, id: UUID) -> Preview | None:
        row = await self._db.fetchrow(f"{PREVIEW} {FROM} where p.company_id = $1 and p.id = $2", company, id)
        return None if row is None else self._preview(row)

    async def which(self, company: str, task_id: UUID, which: str) -> Preview | None:
        """`latest`, `approved`, or a version's number."""
        version = WHICH.get(which) or "$3::int"
        number = () if which in WHICH else (int(which),)
        row = await self._db.fetchrow(
            f"{PREVIEW} {FROM} where p.company_id = $1 and p.task_id = $2 and p.version = {version}",
            *(company, task_id, *number),
        )
        return None if row is None else self._preview(row)

    async def page(self, ask: ListPreviews) -> Page[Preview]:
        matches = (ask.company, ask.task_id, ask.run_id, ask.state)
        rows = await self._db.fetch(
            f"""
            {PREVIEW} {FROM} where {MATCHES}
            order by {order(ask.order_by, ORDER, "-created_at", "p.version desc, p.id")} limit $5 offset $6
            """,
            *(*matches, ask.limit, ask.offset),
        )
        total = await self._db.fetchval(f"select count(*) {FROM} where {MATCHES}", *matches)
        return Page[Preview](items=[self._preview(row) for row in rows], total=total)

    async def submission(self, id: UUID) -> Submission | None:
        """What the job is to publish; None when it was removed."""
        row = await self._db.fetchrow(f"select {SUBMITTED} from previews where id = $1", id)
        if row is None:
            return None
        tree = row["tree"] and {path: (sha256, size) for path, (sha256, size) in row["tree"].items()}
        return Submission(**(dict(row) | {"tree": tree, "state": PreviewState(row["state"])}))

    async def begin(self, id: UUID) -> None:
        """Somebody is at work on it; what has ended stays as it is."""
        await self._db.execute("update previews set state = 'publishing' where id = $1 and state = 'received'", id)

    async def ready(self, id: UUID, entry: str, files: Files) -> bool:
        """With its manifest. False when it had ended before."""
        return bool(
            await self._db.fetchval(
                """
                with ended as (
                    update previews set state = 'ready', ready_at = clock_timestamp(), entry = $2, files = $3, size = $4
                    where id = $1 and state = 'publishing' returning id, company_id)
                insert into manifests (preview_id, company_id, files, objects)
                select id, company_id, $5, $6 from ended returning true
                """,
                *(id, entry, len(files), sum(size for _, size in files.values())),
                *(
                    {path: list(found) for path, found in files.items()},
                    sorted({sha256 for sha256, _ in files.values()}),
                ),
            )
        )

    async def fail(self, id: UUID, error: str) -> bool:
        """False when it had ended before."""
        return bool(
            await self._db.fetchval(
                """
                update previews set state = 'failed', error = $2
                where id = $1 and state = 'publishing' returning true
                """,
                *(id, error),
            )
        )

    async def files(self, company: str, task_id: UUID, version: int) -> Files | None:
        """Of a ready version."""
        found = await self._db.fetchval(
            """
            select m.files from previews p join manifests m on m.preview_id = p.id
            where p.company_id = $1 and p.task_id = $2 and p.version = $3
            """,
            *(company, task_id, version),
        )
        return None if found is None else {path: (sha256, size) for path, (sha256, size) in found.items()}

    def _preview(self, row: asyncpg.Record) -> Preview:
        fields = dict(row)
        place = (fields["company_id"], fields["project_id"], fields["task_id"])
        label, is_ready = fields.pop("label"), fields["state"] == PreviewState.READY
        url = self._origin.version(label, fields["version"], *place) if is_ready else None
        latest_url = self._origin.latest(label, *place) if is_ready else None
        return Preview(url=url, latest_url=latest_url, **fields)
