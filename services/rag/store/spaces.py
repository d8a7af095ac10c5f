"""The SQL of spaces and of what they grant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import asyncpg

from chassis.postgres import Connection, Pool
from contracts.knowledge import (
    Chunking,
    CreateSpace,
    DocumentState,
    Embedder,
    Grant,
    KnowledgeStats,
    Language,
    ListSpaces,
    Right,
    Space,
    SpaceStats,
)
from contracts.page import Page
from services.rag.domain.rights import Who, key_of
from services.rag.store.order import order
from services.rag.store.rights import arguments, open_to

SPACE = """
select s.id, s.company_id, s.name, s.scope, s.scope_id, s.language, s.provider, s.model, s.dimension, s.target, s.wanted,
       s.waits_for, s.created_at, s.updated_at, coalesce(t.chunks, 0) as chunks,
       (select count(*) from documents d where d.space_id = s.id) as documents,
       (select coalesce(json_agg(json_build_object('principal', g.principal, 'right', g."right", 'deny', g.deny)
                                 order by g.ord), '[]') from grants g where g.space_id = s.id) as grants
from spaces s left join space_stats t on t.space = s.number
"""
MATCHES = """
s.company_id = $1 and ($2::text is null or s.scope = $2) and ($3::text is null or s.scope_id = $3)
and ($4::text is null or strpos(lower(s.name), lower($4)) > 0)
"""
ORDER: Mapping[str, str] = {
    "name": "lower(s.name)",
    "created_at": "s.created_at",
    "updated_at": "s.updated_at",
    "chunks": "coalesce(t.chunks, 0)",
}


class SpaceStore:
    """Statements on one connection, or on the pool for reads that need no transaction."""

    def __init__(self, db: Connection | Pool) -> None:
        self._db = db

    async def space(self, company: str, id: UUID) -> Space | None:
        row = await self._db.fetchrow(f"{SPACE} where s.company_id = $1 and s.id = $2", company, id)
        return None if row is None else _space(row)

    async def page(self, ask: ListSpaces) -> Page[Space]:
        matches = (ask.company, ask.scope, ask.scope_id, ask.name_contains)
        by = order(ask.order_by, ORDER, "name", "s.id")
        rows = await self._db.fetch(
            f"{SPACE} where {MATCHES} order by {by} limit $5 offset $6", *matches, ask.limit, ask.offset
        )
        total = await self._db.fetchval(f"select count(*) from spaces s where {MATCHES}", *matches)
        return Page[Space](items=[_space(row) for row in rows], total=total)

    async def add(self, id: UUID, ask: CreateSpace) -> bool:
        """False when the name is taken."""
        number = await self._db.fetchval(
            """
            insert into spaces (id, company_id, name, scope, scope_id, language, provider, model, dimension, target)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) on conflict do nothing returning number
            """,
            *(id, ask.company, ask.name, ask.scope, ask.scope_id, ask.language),
            *(ask.embedder.provider, ask.embedder.model, ask.embedder.dimension, ask.chunking.target),
        )
        if number is not None:
            await self._db.execute("insert into space_stats (space, space_id) values ($1, $2)", number, id)
        return number is not None

    async def grant(self, id: UUID, grants: Sequence[Grant]) -> None:
        """Exactly these from now on."""
        await self._db.execute("delete from grants where space_id = $1", id)
        await self._db.executemany(
            'insert into grants (space_id, ord, principal, key, "right", deny) values ($1, $2, $3, $4, $5, $6)',
            [(id, at, g.principal, key_of(g.principal), g.right, g.deny) for at, g in enumerate(grants)],
        )

    async def lock(self, company: str, id: UUID, *, to_change: bool = True) -> bool:
        """False when there is none. Who adds to it shares the lock with others who do."""
        how = "for update" if to_change else "for share"
        found = await self._db.fetchval(f"select id from spaces where company_id = $1 and id = $2 {how}", company, id)
        return found is not None

    async def may(self, company: str, id: UUID, who: Who, right: Right) -> bool:
        found = await self._db.fetchval(
            f"select exists (select from spaces s where s.company_id = $1 and s.id = $2 and {open_to(3)})",
            *(company, id, *arguments(who, right)),
        )
        return bool(found)

    async def rename(self, id: UUID, name: str) -> bool:
        """False when the name is taken, and then the transaction is lost."""
        try:
            await self._db.execute(
                "update spaces set name = $2, updated_at = clock_timestamp() where id = $1", id, name
            )
        except asyncpg.UniqueViolationError:
            return False
        return True

    async def touch(self, id: UUID) -> None:
        await self._db.execute("update spaces set updated_at = clock_timestamp() where id = $1", id)

    async def want(self, id: UUID, language: Language, embedder: Embedder, chunking: Chunking) -> int | None:
        """What a job is to make of all that lies in the space, in an index of its own; until it has, search goes on with
        what there is. Returns the index that was to be the next, and is of no use now."""
        wanted = {
            "language": language,
            "embedder": embedder.model_dump(mode="json"),
            "chunking": chunking.model_dump(mode="json"),
        }
        before: int | None = await self._db.fetchval(
            """
            with made as (
                insert into space_stats (space, space_id) values (nextval(pg_get_serial_sequence('spaces', 'number')), $1)
                returning space)
            update spaces s set wanted = $2, waits_for = null, next = made.space
            from made, (select next from spaces where id = $1) before where s.id = $1 returning before.next
            """,
            *(id, wanted),
        )
        return before

    async def remove(self, id: UUID) -> None:
        """The space without documents, and all that is granted in it."""
        await self._db.execute("delete from spaces where id = $1", id)

    async def stats(self, company: str) -> KnowledgeStats:
        rows = await self._db.fetch(
            """
            select s.id, s.name, coalesce(t.chunks, 0) as chunks,
                   (select coalesce(json_object_agg(state, n), '{}') from (
                        select v.state, count(*) as n
                        from documents d join versions v on v.document_id = d.id and v.version = d.version
                        where d.space_id = s.id group by v.state) x) as documents
            from spaces s left join space_stats t on t.space = s.number
            where s.company_id = $1 order by lower(s.name), s.id
            """,
            company,
        )
        spaces = [
            SpaceStats(space_id=row["id"], name=row["name"], documents=row["documents"], chunks=row["chunks"])
            for row in rows
        ]
        counted = {state: sum(s.documents.get(state, 0) for s in spaces) for state in DocumentState}
        return KnowledgeStats(documents=counted, chunks=sum(s.chunks for s in spaces), spaces=spaces)


def _space(row: asyncpg.Record) -> Space:
    """Of one that is being changed, what it will be."""
    fields: dict[str, Any] = dict(row)
    wanted = fields.pop("wanted")
    provider, model, dimension = fields.pop("provider"), fields.pop("model"), fields.pop("dimension")
    now = {
        "embedder": {"provider": provider, "model": model, "dimension": dimension},
        "chunking": {"target": fields.pop("target")},
    }
    return Space.model_validate(fields | (wanted or now) | {"reindexing": wanted is not None})
