"""The SQL of what is searched: built apart, out of sight, and put in place of what was there in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from chassis.postgres import Connection, Pool
from services.rag.domain.analysis import PLACES, Indexed

LENGTHY = 600.0  # seconds for statements over all of a document: where there is a graph, each row costs milliseconds
HOLD = "select pg_advisory_xact_lock(hashtextextended('index ' || $1::uuid::text, 3))"
TAKE_OUT = (
    """
    delete from vectors v using chunks c
    where c.document_id = $1 and v.company_id = c.company_id and v.chunk_id = c.id
    """,
    "delete from lexemes l using chunks c where c.document_id = $1 and l.chunk_id = c.id",
    "delete from chunks where document_id = $1",
)


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
class Swapped:
    """What a new version has put in place, and of which version."""

    space_id: UUID
    company_id: str
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

    async def swap(self, document_id: UUID, version: int) -> Swapped | None:
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
        await self._take_out(document_id)
        chunks = await self._put_in(row["company_id"], row["number"], document_id, version)
        await self._db.execute(
            """
            update documents d set searchable = $2, title = v.title, tags = v.tags, dated = v.dated,
                title_vector = v.title_vector, updated_at = clock_timestamp()
            from versions v where d.id = $1 and v.document_id = d.id and v.version = $2
            """,
            *(document_id, version),
        )
        await self._db.execute("delete from building where document_id = $1 and version <= $2", document_id, version)
        return Swapped(row["space_id"], row["company_id"], row["title"], chunks, row["searchable"])

    async def drop(self, document_id: UUID) -> None:
        """Nothing of it is searched any more. Its space is held."""
        await self._take_out(document_id)

    async def drop_space(self, space_id: UUID) -> None:
        """Nothing of all its documents is searched any more. It is held, and goes with the transaction."""
        number = await self._db.fetchval("select number from spaces where id = $1", space_id)
        for table in ("vectors", "lexemes", "terms"):
            await self._db.execute(f"delete from {table} where space = $1", number, timeout=LENGTHY)
        of_it = "(select id from documents where space_id = $1)"  # of a space alone, chunks have no index
        await self._db.execute(f"delete from chunks where document_id in {of_it}", space_id, timeout=LENGTHY)

    async def _put_in(self, company: str, space: int, document_id: UUID, version: int) -> int:
        of = (document_id, version)
        await self._db.execute(
            """
            insert into chunks (id, company_id, space, document_id, version, ord, start, stop, page, header, body, folded,
                                terms, length, gap)
            select chunk_id, $3, $4, document_id, version, ord, start, stop, page, header, body, folded, terms, length, gap
            from building where document_id = $1 and version = $2 order by ord
            """,
            *(*of, company, space),
            timeout=LENGTHY,
        )
        await self._db.execute(
            """
            insert into lexemes (chunk_id, company_id, space, document_id, ts, weights)
            select chunk_id, $3, $4, document_id, array_to_tsvector(lexemes || $5::text), weights
            from building where document_id = $1 and version = $2 order by ord
            """,
            *(*of, company, space, lexeme_of(space)),
            timeout=LENGTHY,
        )
        await self._db.execute(
            """
            insert into vectors (company_id, chunk_id, space, document_id, h)
            select $3, chunk_id, $4, document_id, h from building
            where document_id = $1 and version = $2 and h is not null order by ord
            """,
            *(*of, company, space),
            timeout=LENGTHY,
        )
        return await self._count(space, document_id, 1)

    async def _take_out(self, document_id: UUID) -> None:
        spaces = await self._db.fetch("select distinct space from chunks where document_id = $1", document_id)
        for row in spaces:
            await self._count(row["space"], document_id, -1)
        for statement in TAKE_OUT:
            await self._db.execute(statement, document_id, timeout=LENGTHY)

    async def _count(self, space: int, document_id: UUID, sign: int) -> int:
        """How many chunks have each term: what is rare says more. Returns how many chunks the document has."""
        await self._db.execute(
            """
            insert into terms as t (space, term, n)
            select $1, x.term, $3 * count(*) from chunks c, unnest(c.terms) as x (term)
            where c.document_id = $2 group by x.term order by x.term
            on conflict (space, term) do update set n = t.n + excluded.n
            """,
            *(space, document_id, sign),
            timeout=LENGTHY,
        )
        if sign < 0:
            await self._db.execute(
                """
                delete from terms t where t.space = $1 and t.n <= 0
                and t.term in (select x.term from chunks c, unnest(c.terms) as x (term) where c.document_id = $2)
                """,
                *(space, document_id),
                timeout=LENGTHY,
            )
        counted: int = await self._db.fetchval(
            """
            with counted as (
                select count(*) as chunks, coalesce(sum(length), 0) as length from chunks where document_id = $2)
            update space_stats t set documents = t.documents + $3, chunks = t.chunks + $3 * c.chunks,
                length = t.length + $3 * c.length
            from counted c where t.space = $1 returning c.chunks
            """,
            *(space, document_id, sign),
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
