"""The SQL of a space's indexes: the one that is searched, the one that is to take its place, and those that go."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from chassis.postgres import Connection, Pool, affected
from services.rag.store.index import InPlace
from services.rag.store.ingestion import Recipe, Version, recipe_of


@dataclass(frozen=True, slots=True)
class Indexes:
    """What a space is searched by; `next` and `wanted` while it is made anew."""

    index: int
    recipe: Recipe
    next: int | None
    wanted: Recipe | None


class IndexesStore:
    """Statements on one connection, or on the pool for reads that need no transaction."""

    def __init__(self, db: Connection | Pool) -> None:
        self._db = db

    async def of(self, space_id: UUID, *, locked: str = "") -> Indexes | None:
        """`locked` `for share` while something comes to one of them, `for update` to change which is which."""
        row = await self._db.fetchrow(
            f"select number, next, provider, model, dimension, target, language, wanted from spaces where id = $1 {locked}",
            space_id,
        )
        if row is None:
            return None
        wanted = None if row["wanted"] is None else recipe_of(row, as_wanted=True)
        return Indexes(row["number"], recipe_of(row), row["next"], wanted)

    async def missing(self, space_id: UUID, index: int) -> list[tuple[UUID, int]]:
        """Searchable versions of a space that do not stand in this index."""
        rows = await self._db.fetch(
            """
            select d.id, d.searchable from documents d where d.space_id = $1 and d.searchable is not null
            and not exists (select from remade r where r.space = $2 and r.document_id = d.id and r.version = d.searchable)
            order by d.id
            """,
            *(space_id, index),
        )
        return [(row["id"], row["searchable"]) for row in rows]

    async def has(self, what: Version) -> bool:
        found = await self._db.fetchval(
            "select exists (select from remade where space = $1 and document_id = $2 and version = $3)",
            *(what.index, what.document_id, what.version),
        )
        return bool(found)

    async def is_built(self, what: Version) -> bool:
        """Wholly, as this index wants it, and it is still the version that is searched."""
        found = await self._db.fetchval(
            """
            select v.recipe = $3 and v.planned = (
                select count(h) from building b where b.document_id = v.document_id and b.version = v.version)
            from versions v join documents d on d.id = v.document_id and d.searchable = v.version
            where v.document_id = $1 and v.version = $2
            """,
            *(what.document_id, what.version, str(what.recipe)),
        )
        return bool(found)

    async def stands(self, what: Version) -> None:
        """All that was built of it is in its index."""
        await self._db.execute(
            """
            insert into remade (space, document_id, version, chunks, title_vector)
            select $3, document_id, version, planned, title_vector from versions where document_id = $1 and version = $2
            on conflict (space, document_id) do update
            set version = excluded.version, chunks = excluded.chunks, title_vector = excluded.title_vector
            """,
            *(what.document_id, what.version, what.index),
        )

    async def unbuild(self, what: Version) -> None:
        await self._db.execute(
            "delete from building where document_id = $1 and version = $2", what.document_id, what.version
        )

    async def adopt(self, space_id: UUID, recipe: Recipe) -> None:
        """The space is searched by its next index, whose recipe this is, from the commit on."""
        e = recipe.embedder
        await self._db.execute(
            """
            update spaces set number = next, next = null, wanted = null, waits_for = null, provider = $2, model = $3,
                dimension = $4, target = $5, language = $6, updated_at = clock_timestamp() where id = $1
            """,
            *(space_id, e.provider, e.model, e.dimension, recipe.target, recipe.language),
        )

    async def waits_for(self, space_id: UUID, reason: str) -> None:
        """What keeps it from being made anew, for people to read."""
        await self._db.execute(
            "update spaces set waits_for = $2 where id = $1 and wanted is not null", space_id, reason
        )

    async def announced(self, space_id: UUID, most: int) -> tuple[int, list[InPlace]]:
        """Documents say of themselves what the index has that is searched since it was adopted: how many it looked at, and
        those of which nothing newer is searched. Each once."""
        rows = await self._db.fetch(
            """
            with taken as (
                delete from remade r using (
                    select x.space, x.document_id, s.language from spaces s join remade x on x.space = s.number
                    where s.id = $1 order by x.document_id limit $2) o
                where r.space = o.space and r.document_id = o.document_id returning r.*, o.language
            ), titled as (
                update documents d set title_vector = r.title_vector from taken r
                where d.id = r.document_id and d.searchable = r.version
                returning d.id, d.company_id, d.space_id, r.version, r.chunks, r.language
            ), noted as (
                update versions v set language = t.language, chunks = t.chunks, done = t.chunks from titled t
                where v.document_id = t.id and v.version = t.version
                returning v.document_id, v.version, t.company_id, t.space_id, v.title, v.chunks, v.version as replaced
            )
            select r.document_id as looked_at, n.* from taken r left join noted n on n.document_id = r.document_id
            """,
            *(space_id, most),
        )
        names = InPlace.__dataclass_fields__
        return len(rows), [InPlace(**{name: row[name] for name in names}) for row in rows if row["document_id"]]

    async def clear(self, index: int, most: int) -> int:
        """Of an index that is searched no more: so many of its rows, and itself with the last. How many went."""
        gone = await self._db.execute(
            """
            with taken as materialized (select chunk_id, company_id from lexemes where space = $1 limit $2),
            v as (delete from vectors v using taken
                  where v.company_id = taken.company_id and v.chunk_id = taken.chunk_id and v.space = $1),
            c as (delete from chunks c using taken where c.id = taken.chunk_id)
            delete from lexemes l using taken where l.chunk_id = taken.chunk_id
            """,
            *(index, most),
        )
        if n := affected(gone):
            return n
        terms = await self._db.execute(
            """
            delete from terms t using (select term from terms where space = $1 limit $2) x
            where t.space = $1 and t.term = x.term
            """,
            *(index, most),
        )
        if n := affected(terms):
            return n
        await self._db.execute("delete from remade where space = $1", index)
        await self._db.execute("delete from space_stats where space = $1", index)
        return 0
