"""The SQL of documents and their versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

import asyncpg

from chassis.postgres import Connection, Pool, affected
from contracts.knowledge import Document, DocumentState, DocumentVersion, ListDocuments
from contracts.page import Page
from services.rag.store.order import order

DOCUMENT = """
select d.id, d.company_id, d.space_id, d.external_id, v.title, v.tags, v.dated, v.content_type, v.size, v.sha256,
       d.version, d.searchable, v.state, v.error, v.pages, v.chunks, v.done, v.language, d.created_at, d.updated_at,
       v.waits_for
from documents d join versions v on v.document_id = d.id and v.version = d.version
"""
MATCHES = """
d.company_id = $1 and ($2::uuid is null or d.space_id = $2) and ($3::text is null or v.state = $3)
and ($4::text is null or strpos(lower(v.title), lower($4)) > 0) and ($5::text is null or v.tags @> array[$5])
"""
ORDER: Mapping[str, str] = {
    "title": "lower(v.title)",
    "created_at": "d.created_at",
    "updated_at": "d.updated_at",
    "dated": "v.dated",
    "size": "v.size",
    "chunks": "v.chunks",
    "state": "v.state",
}
ENDED = "('ready', 'failed', 'needs_ocr')"


@dataclass(frozen=True, slots=True)
class Sent:
    """A version as it was sent."""

    title: str
    tags: list[str]
    dated: date | None
    name: str | None
    content_type: str
    size: int
    sha256: str
    made_by: str | None


class DocumentStore:
    """Statements on one connection, or on the pool for reads that need no transaction."""

    def __init__(self, db: Connection | Pool) -> None:
        self._db = db

    async def document(self, company: str, id: UUID) -> Document | None:
        row = await self._db.fetchrow(f"{DOCUMENT} where d.company_id = $1 and d.id = $2", company, id)
        return None if row is None else _document(row)

    async def by_id(self, id: UUID) -> Document | None:
        row = await self._db.fetchrow(f"{DOCUMENT} where d.id = $1", id)
        return None if row is None else _document(row)

    async def lock(self, company: str, id: UUID) -> Document | None:
        row = await self._db.fetchrow(f"{DOCUMENT} where d.company_id = $1 and d.id = $2 for update of d", company, id)
        return None if row is None else _document(row)

    async def page(self, ask: ListDocuments) -> Page[Document]:
        matches = (ask.company, ask.space_id, ask.state, ask.title_contains, ask.tag)
        by = order(ask.order_by, ORDER, "-created_at", "d.id")
        rows = await self._db.fetch(
            f"{DOCUMENT} where {MATCHES} order by {by} limit $6 offset $7", *matches, ask.limit, ask.offset
        )
        total = await self._db.fetchval(
            "select count(*) from documents d join versions v on v.document_id = d.id and v.version = d.version"
            f" where {MATCHES}",
            *matches,
        )
        return Page[Document](items=[_document(row) for row in rows], total=total)

    async def versions(self, document_id: UUID) -> list[DocumentVersion]:
        """The newest first."""
        rows = await self._db.fetch(
            """
            select version, state, error, content_type, size, sha256, chunks, created_at, ready_at
            from versions where document_id = $1 order by version desc
            """,
            document_id,
        )
        return [DocumentVersion.model_validate(dict(row)) for row in rows]

    async def file(self, company: str, id: UUID, version: int | None) -> asyncpg.Record | None:
        return await self._db.fetchrow(
            """
            select v.sha256, v.size, v.content_type, v.name, v.title from documents d
            join versions v on v.document_id = d.id and v.version = coalesce($3, d.version)
            where d.company_id = $1 and d.id = $2
            """,
            *(company, id, version),
        )

    async def hold(self, company: str, space_id: UUID, identity: str, new: UUID) -> tuple[UUID, bool]:
        """The document of this identity, locked, and whether it was made now: then it has no version yet."""
        row = await self._db.fetchrow(
            """
            insert into documents (id, company_id, space_id, identity, title, tags, version)
            values ($1, $2, $3, $4, '', '{}', 1)
            on conflict (space_id, identity) do update set space_id = excluded.space_id returning id
            """,
            *(new, company, space_id, identity),
        )
        assert row is not None, "it is there or was made"
        return row["id"], row["id"] == new

    async def add_version(self, id: UUID, external_id: str | None, version: int, sent: Sent) -> None:
        """The document is locked. While none is searched, its title, tags and date are those of the newest."""
        await self._db.execute(
            """
            insert into versions (document_id, version, company_id, title, tags, dated, name, content_type, size, sha256,
                                  made_by, language)
            select d.id, $2, d.company_id, $3, $4, $5, $6, $7, $8, $9, $10, coalesce(s.wanted ->> 'language', s.language)
            from documents d join spaces s on s.id = d.space_id where d.id = $1
            """,
            *(id, version, sent.title, sent.tags, sent.dated, sent.name, sent.content_type, sent.size, sent.sha256),
            sent.made_by,
        )
        await self._db.execute(
            """
            update documents set version = $2, external_id = $3, updated_at = clock_timestamp(),
                title = case when searchable is null then $4 else title end,
                tags = case when searchable is null then $5 else tags end,
                dated = case when searchable is null then $6 else dated end
            where id = $1
            """,
            *(id, version, external_id, sent.title, sent.tags, sent.dated),
        )

    async def relabel(self, id: UUID, tags: list[str], dated: date | None) -> None:
        """The newest version stays what it is, and so does what is searched."""
        await self._db.execute(
            """
            update versions v set tags = $2, dated = $3 from documents d
            where d.id = $1 and v.document_id = d.id and v.version = d.version
            """,
            *(id, tags, dated),
        )
        await self._db.execute(
            """
            update documents set updated_at = clock_timestamp(),
                tags = case when coalesce(searchable, version) = version then $2 else tags end,
                dated = case when coalesce(searchable, version) = version then $3 else dated end
            where id = $1
            """,
            *(id, tags, dated),
        )

    async def again(self, id: UUID) -> Sent:
        """What the newest version was made of."""
        row = await self._db.fetchrow(
            """
            select v.title, v.tags, v.dated, v.name, v.content_type, v.size, v.sha256, v.made_by
            from documents d join versions v on v.document_id = d.id and v.version = d.version where d.id = $1
            """,
            id,
        )
        assert row is not None, "a document has a newest version"
        return Sent(**dict(row))

    async def ready(self, id: UUID, version: int, chunks: int) -> bool:
        """False when it has ended before."""
        tag = await self._db.execute(
            f"""
            update versions set state = 'ready', chunks = $3, done = $3, ready_at = clock_timestamp()
            where document_id = $1 and version = $2 and state not in {ENDED}
            """,
            *(id, version, chunks),
        )
        return affected(tag) == 1

    async def fail(self, id: UUID, version: int, state: DocumentState, error: str) -> bool:
        """False when it has ended before. What was built of it goes. Who removes it locks the document first, too."""
        await self._db.execute("select from documents where id = $1 for update", id)
        tag = await self._db.execute(
            f"""
            update versions set state = $3, error = $4, waits_for = null
            where document_id = $1 and version = $2 and state not in {ENDED}
            """,
            *(id, version, state, error),
        )
        if affected(tag) != 1:
            return False
        await self._db.execute("delete from building where document_id = $1 and version = $2", id, version)
        await self._db.execute("update documents set updated_at = clock_timestamp() where id = $1", id)
        return True

    async def lock_all(self, company: str, space_id: UUID) -> list[Document]:
        rows = await self._db.fetch(
            f"{DOCUMENT} where d.company_id = $1 and d.space_id = $2 order by d.id for update of d", company, space_id
        )
        return [_document(row) for row in rows]

    async def objects(self, ids: Sequence[UUID]) -> list[str]:
        """The bytes that their versions name."""
        rows = await self._db.fetch(
            """
            select sha256 from versions where document_id = any($1)
            union select text_sha256 from versions where document_id = any($1) and text_sha256 is not null
            """,
            list(ids),
        )
        return [row["sha256"] for row in rows]

    async def remove(self, ids: Sequence[UUID]) -> None:
        await self._db.execute("delete from documents where id = any($1)", list(ids))


def _document(row: asyncpg.Record) -> Document:
    fields: dict[str, Any] = dict(row)
    done = fields.pop("done")
    share = 1.0 if row["state"] == DocumentState.READY else min(done / max(row["chunks"], 1), 1.0)
    return Document.model_validate(fields | {"progress": share})
