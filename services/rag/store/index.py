"""The SQL of what is searched: built apart, out of sight, and put in place of what was there in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from chassis.postgres import Connection, Pool
from services.rag.domain.analysis import PLACES, Indexed

LENGTHY = 600.0  # seconds for statements over all of a document: where there is a graph, each row costs milliseconds
HOLD = "select pg_advisory_xact_lock(hashtextextended('index ' || $1::uuid::text, 3))"
#: of the chunks `c`, what lies in an index; the chunks go last
WITH_ITS_CHUNKS = (
    "delete from vectors v using chunks c where {} and v.company_id = c.company_id and v.chunk_id = c.id",
    "delete from lexemes l using chunks c where {} and l.chunk_id = c.id",
    "delete from chunks c where {}",
)
#: one chunk may lie in two indexes
ID = "md5($4::int || ' ' || chunk_id)::uuid"
OF_BUILDING = "document_id = $1 and version = $2 and ord >= $5 and ord < $6"
ALL = 2_147_483_647  # chunks


@dataclass(frozen=True, slots=True)
class Built:
    """A chunk as it will be searched. `header` is its headings, without the title; offsets count characters of the text,
    and `gap` is what lies between it and the next."""

    ord: int
    chunk_id: UUID
    start: int
    stop: int
    page: int | None
    header: str | None
    body: str
    indexed: Indexed
    gap: str = ""


@dataclass(frozen=True, slots=True)
class InPlace:
    """A version that is searched since now, and in place of which it is: of itself, when its space was made anew."""

    document_id: UUID
    version: int
    company_id: str
    space_id: UUID
    title: str
    chunks: int
    replaced: int | None


class IndexStore:
    """Statements on one connection; `build` and `add_vectors` on the pool as well."""

    def __init__(self, db: Connection | Pool) -> None:
        self._db = db

    async def build(self, document_id: UUID, version: int, rows: Sequence[Built]) -> None:
        """Chunks of a version that is not searched yet. Those that are there already stay as they are."""
        await self._db.executemany(
            f"""
            insert into building (document_id, version, ord, chunk_id, start, stop, page, header, body, folded, lexemes,
                                  terms, weights, length, gap)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13::text::sparsevec({PLACES}), $14, $15)
            on conflict do nothing
            """,
            [
                (
                    *(document_id, version, row.ord, row.chunk_id, row.start, row.stop, row.page, row.header, row.body),
                    *(row.indexed.folded, row.indexed.lexemes, row.indexed.terms),
                    *(sparse(row.indexed.terms, row.indexed.weights), row.indexed.length, row.gap),
                )
                for row in rows
            ],
        )

    async def add_vectors(self, document_id: UUID, version: int, vectors: Mapping[int, Sequence[float]]) -> None:
        """Of chunks that are being built, by their place in the document."""
        await self._db.execute(
            """
            update building as b set h = x.h::halfvec
            from unnest($3::int[], $4::text[]) as x (ord, h)
            where b.document_id = $1 and b.version = $2 and b.ord = x.ord
            """,
            *(document_id, version, list(vectors), [dense(v) for v in vectors.values()]),
        )

    async def hold(self, space_id: UUID, *, patience: float | None = None) -> None:
        """Whoever changes what is searched in a space does it alone; before any row is locked."""
        await self._db.execute(HOLD, space_id, timeout=patience)

    async def swap(self, document_id: UUID, version: int) -> InPlace | None:
        """The version is searched from the commit on, whole, and no other. None when it is gone or no longer wanted."""
        place = await self._db.fetchrow("select space_id from documents where id = $1", document_id)
        if place is None:
            return None
        await self.hold(place["space_id"])
        row = await self._db.fetchrow(
            """
            select d.company_id, d.space_id, d.searchable, s.number, v.title from documents d
            join spaces s on s.id = d.space_id join versions v on v.document_id = d.id and v.version = $2
            where d.id = $1 and v.state not in ('failed', 'needs_ocr') for no key update of d, v
            """,
            *(document_id, version),
        )
        if row is None or (row["searchable"] or 0) > version:
            return None
        await self.take_out(document_id, row["number"])
        chunks = await self._put_in(row["company_id"], row["number"], document_id, version)
        await self._db.execute(
            """
            update documents d set searchable = $2, title = v.title, tags = v.tags, dated = v.dated,
                title_vector = v.title_vector, updated_at = clock_timestamp()
            from versions v where d.id = $1 and v.document_id = d.id and v.version = $2
            """,
            *(document_id, version),
        )
        await self._db.execute("delete from remade where document_id = $1 and space = $2", document_id, row["number"])
        await self._db.execute("delete from building where document_id = $1 and version <= $2", document_id, version)
        of = (row["company_id"], row["space_id"], row["title"])
        return InPlace(document_id, version, *of, chunks, row["searchable"])

    async def add_some(self, company: str, index: int, document_id: UUID, version: int, most: int) -> bool:
        """So many more chunks of what was built come to an index that is not searched yet. False when all are there."""
        begun = await self._db.fetchval(
            "select coalesce(max(ord) + 1, 0) from chunks where document_id = $1 and space = $2", document_id, index
        )
        before = begun + most
        added = await self._put_in(company, index, document_id, version, first=begun, before=before)
        return added == most

    async def drop(self, document_id: UUID) -> None:
        """Nothing of it is searched any more, nor will be. Its space is held."""
        rows = await self._db.fetch(
            "select distinct space from chunks where document_id = $1 order by space", document_id
        )
        for row in rows:
            await self.take_out(document_id, row["space"])

    async def drop_space(self, space_id: UUID) -> None:
        """Nothing of all its documents is searched any more. It is held, and goes with the transaction."""
        rows = await self._db.fetch("select space from space_stats where space_id = $1", space_id)
        for table in ("vectors", "lexemes", "terms"):
            await self._db.execute(
                f"delete from {table} where space = any($1)", [row["space"] for row in rows], timeout=LENGTHY
            )
        of_it = "(select id from documents where space_id = $1)"  # of a space alone, chunks have no index
        await self._db.execute(f"delete from chunks where document_id in {of_it}", space_id, timeout=LENGTHY)

    async def _put_in(
        self, company: str, index: int, document_id: UUID, version: int, *, first: int = 0, before: int = ALL
    ) -> int:
        """Chunks of these places. How many they are."""
        of = (document_id, version, company, index, first, before)
        await self._db.execute(
            f"""
            insert into chunks (id, company_id, space, document_id, version, ord, start, stop, page, header, body, folded,
                                terms, length, gap)
            select {ID}, $3, $4, document_id, version, ord, start, stop, page, header, body, folded, terms, length, gap
            from building where {OF_BUILDING} order by ord
            """,
            *of,
            timeout=LENGTHY,
        )
        await self._db.execute(
            f"""
            insert into lexemes (chunk_id, company_id, space, document_id, ts, weights)
            select {ID}, $3, $4, document_id, array_to_tsvector(lexemes || $7::text), weights
            from building where {OF_BUILDING} order by ord
            """,
            *(*of, lexeme_of(index)),
            timeout=LENGTHY,
        )
        await self._db.execute(
            f"""
            insert into vectors (company_id, chunk_id, space, document_id, h)
            select $3, {ID}, $4, document_id, h from building where {OF_BUILDING} and h is not null order by ord
            """,
            *of,
            timeout=LENGTHY,
        )
        return await self._count(index, document_id, 1, first)

    async def take_out(self, document_id: UUID, index: int) -> None:
        """Whatever an index has of it. Its space is held."""
        of = "c.document_id = $1 and c.space = $2"
        if not await self._db.fetchval(f"select exists (select from chunks c where {of})", document_id, index):
            return
        await self._count(index, document_id, -1)
        for statement in WITH_ITS_CHUNKS:
            await self._db.execute(statement.format(of), document_id, index, timeout=LENGTHY)

    async def _count(self, index: int, document_id: UUID, sign: int, first: int = 0) -> int:
        """How many chunks have each term: what is rare says more. Returns how many chunks there are from `first` on."""
        of = "c.document_id = $2 and c.space = $1 and c.ord >= $3"
        nobodys = await self._db.fetchval(
            f"""
            with counted as (
                insert into terms as t (space, term, n)
                select $1, x.term, $4 * count(*) from chunks c, unnest(c.terms) as x (term)
                where {of} group by x.term order by x.term
                on conflict (space, term) do update set n = t.n + excluded.n returning term, n)
            select array_agg(term) from counted where n <= 0
            """,
            *(index, document_id, first, sign),
            timeout=LENGTHY,
        )
        if nobodys:
            await self._db.execute("delete from terms where space = $1 and term = any($2)", index, nobodys)
        counted: int = await self._db.fetchval(
            f"""
            with counted as (select count(*) as chunks, coalesce(sum(length), 0) as length from chunks c where {of})
            update space_stats t set documents = t.documents + case when $3 = 0 then $4 else 0 end,
                chunks = t.chunks + $4 * c.chunks, length = t.length + $4 * c.length
            from counted c where t.space = $1 returning c.chunks
            """,
            *(index, document_id, first, sign),
        )
        return counted


def lexeme_of(space: int) -> str:
    """No word has this character."""
    return f"#{space}"


def sparse(places: Sequence[int], values: Sequence[float]) -> str:
    """As pgvector reads it."""
    return f"{{{','.join(f'{at}:{value:.5g}' for at, value in zip(places, values, strict=True))}}}/{PLACES}"


def dense(vector: Sequence[float]) -> str:
    return f"[{','.join(f'{value:.5g}' for value in vector)}]"
