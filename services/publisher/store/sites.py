"""The SQL of sites: one per task with its host, what is served there, and who a shared link leads to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from chassis.postgres import Connection, Pool
from contracts.artifacts import Visibility

Files = Mapping[str, tuple[str, int]]  # path -> sha256, size

SITE = "s.company_id, s.task_id, s.project_id, s.label, s.latest, s.approved, s.revision"
IS_DELETED = "exists (select from deleted_tasks d where d.company_id = s.company_id and d.task_id = s.task_id)"
TREE = "p.id, p.version, p.entry, p.visibility, m.files"


@dataclass(frozen=True, slots=True)
class Site:
    """`latest` and `approved` are versions; `revision` counts what those who serve it must notice."""

    company_id: str
    task_id: UUID
    project_id: str
    label: str
    latest: int | None
    approved: int | None
    revision: int
    deleted: bool = False  # its task was; only looked at for who reads


@dataclass(frozen=True, slots=True)
class Tree:
    """A ready version: all that is served of it."""

    preview_id: UUID
    version: int
    entry: str
    visibility: Visibility
    files: Files


@dataclass(frozen=True, slots=True)
class Shared:
    """What a link leads to. `over` when it has expired or was revoked, or its task was deleted."""

    company_id: str
    preview_id: UUID | None
    artifact_id: UUID | None
    expires_at: datetime
    over: bool


class SiteStore:
    """Statements on one connection, or on the pool for reads that need no transaction."""

    def __init__(self, db: Connection | Pool) -> None:
        self._db = db

    async def hold(self, company: str, task_id: UUID, project: str, label: str) -> Site:
        """Made when there is none, and locked: versions are numbered one after the other. `label` is for a new one."""
        row = await self._db.fetchrow(
            f"""
            insert into sites as s (company_id, task_id, project_id, label) values ($1, $2, $3, $4)
            on conflict (company_id, task_id) do update set project_id = s.project_id returning {SITE}
            """,
            *(company, task_id, project, label),
        )
        assert row is not None, "the statement inserts or locks"
        return Site(**row)

    async def lock(self, company: str, task_id: UUID) -> Site | None:
        found = f"select {SITE} from sites s where company_id = $1 and task_id = $2 for update"
        row = await self._db.fetchrow(found, company, task_id)
        return None if row is None else Site(**row)

    async def lock_of(self, company: str, preview_id: UUID) -> Site | None:
        """The site of a preview."""
        task_id = await self._db.fetchval(
            "select task_id from previews where company_id = $1 and id = $2", company, preview_id
        )
        return None if task_id is None else await self.lock(company, task_id)

    async def number(self, company: str, task_id: UUID) -> int:
        """The next version's."""
        found = "update sites set version = version + 1 where company_id = $1 and task_id = $2 returning version"
        version: int = await self._db.fetchval(found, company, task_id)
        return version

    async def shows(self, site: Site, latest: int | None, approved: int | None) -> None:
        """What is served from now on."""
        await self._db.execute(
            """
            update sites set latest = $3, approved = $4, revision = revision + 1
            where company_id = $1 and task_id = $2
            """,
            *(site.company_id, site.task_id, latest, approved),
        )

    async def of_label(self, label: str) -> Site | None:
        return await self._site("label = $1", label)

    async def of_task(self, company: str, project: str, task_id: UUID) -> Site | None:
        return await self._site("company_id = $1 and project_id = $2 and task_id = $3", company, project, task_id)

    async def _site(self, condition: str, *values: Any) -> Site | None:
        found = f"select {SITE}, {IS_DELETED} as deleted from sites s where {condition}"
        row = await self._db.fetchrow(found, *values)
        return None if row is None else Site(**row)

    async def revision(self, company: str, task_id: UUID) -> int | None:
        found: int | None = await self._db.fetchval(
            "select revision from sites where company_id = $1 and task_id = $2", company, task_id
        )
        return found

    async def state(self, company: str, task_id: UUID, version: int | None) -> str | None:
        """Of a version, or of the one that was sent last: what to tell who comes too early."""
        found: str | None = await self._db.fetchval(
            """
            select state from previews where company_id = $1 and task_id = $2 and version = coalesce($3, version)
            order by version desc limit 1
            """,
            *(company, task_id, version),
        )
        return found

    async def tree(self, company: str, task_id: UUID, version: int) -> Tree | None:
        return await self._tree("p.company_id = $1 and p.task_id = $2 and p.version = $3", company, task_id, version)

    async def tree_of(self, company: str, preview_id: UUID) -> Tree | None:
        return await self._tree("p.company_id = $1 and p.id = $2", company, preview_id)

    async def _tree(self, condition: str, *values: Any) -> Tree | None:
        """None unless it is ready."""
        found = f"select {TREE} from previews p join manifests m on m.preview_id = p.id where {condition}"
        row = await self._db.fetchrow(found, *values)
        if row is None:
            return None
        files = {path: (sha256, size) for path, (sha256, size) in row["files"].items()}
        return Tree(row["id"], row["version"], row["entry"], Visibility(row["visibility"]), files)

    async def shared(self, secret_sha256: str) -> Shared | None:
        row = await self._db.fetchrow(
            """
            select h.company_id, h.preview_id, h.artifact_id, h.expires_at,
                   h.revoked_at is not null or h.expires_at <= clock_timestamp()
                   or exists (select from deleted_tasks d where d.company_id = h.company_id
                              and d.task_id = coalesce(p.task_id, a.task_id)) as over
            from shares h left join previews p on p.id = h.preview_id left join artifacts a on a.id = h.artifact_id
            where h.secrets @> array[$1]
            """,
            secret_sha256,
        )
        return None if row is None else Shared(**row)
