"""The SQL of the figures of search: real chunks read, a library put in beside them, and the study's own statement."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import numpy as np

from bench.knowledge.binary import as_bytes, copied, same, vectors_of
from bench.knowledge.library import CHUNKS_A_DOCUMENT, Chunk, Library, Seed
from chassis.postgres import Connection, Pool
from contracts.knowledge import Language
from services.rag.domain.analysis import PLACES
from services.rag.store.index import lexeme_of, sparse

COMPANY = "default"
AT_ONCE = 10_000  # rows of a COPY
#: what the study's connections were set to
STUDY_SETTINGS = {
    "plan_cache_mode": "force_custom_plan",
    "hnsw.ef_search": "100",
    "hnsw.iterative_scan": "relaxed_order",
}


async def seeds(connection: Connection) -> tuple[list[Seed], Any]:
    """All chunks that are searched, and their vectors."""
    rows = await connection.fetch(
        """
        select c.document_id, d.title, s.language, c.body, v.h::vector::float4[] as h from chunks c
        join documents d on d.id = c.document_id join spaces s on s.number = c.space
        join vectors v on v.company_id = c.company_id and v.chunk_id = c.id order by c.space, c.document_id, c.ord
        """
    )
    found = [Seed(row["document_id"], row["title"], Language(row["language"]), row["body"]) for row in rows]
    return found, np.array([row["h"] for row in rows], np.float32)


async def put_in(connection: Connection, library: Library) -> tuple[list[UUID], list[UUID]]:
    """As if its documents had been sent, one space after the other: the ids of spaces, and those of chunks by row."""
    spaces = [uuid4() for _ in library.spaces]
    numbers = await _spaces(connection, spaces, library)
    ids = [uuid4() for _ in library.chunks]
    async with _without_the_index(connection, "lexemes_by_stem"):
        for start in range(0, len(ids), AT_ONCE):
            rows = range(start, min(start + AT_ONCE, len(ids)))
            await _rows(connection, library, rows, ids, spaces, numbers)
    await _count(connection, list(numbers))
    for table in ("documents", "chunks", "lexemes", "vectors", "terms", "space_stats"):
        await connection.execute(f"vacuum (analyze) {table}", timeout=300)
    return spaces, ids


async def _spaces(connection: Connection, ids: Sequence[UUID], library: Library) -> list[int]:
    rows = await connection.fetch(
        """
        insert into spaces (id, company_id, name, scope, language, provider, model, dimension, target)
        select x.id, $3, 'Library ' || x.id, 'company', x.language, 'local', 'all-MiniLM-L6-v2', 384, 800
        from unnest($1::uuid[], $2::text[]) with ordinality as x (id, language, ord) order by x.ord
        returning id, number
        """,
        *(list(ids), [space.language for space in library.spaces], COMPANY),
    )
    by_id = {row["id"]: int(row["number"]) for row in rows}
    return [by_id[id] for id in ids]


@asynccontextmanager
async def _without_the_index(connection: Connection, name: str) -> AsyncIterator[None]:
    """It is made at once of all rows: that takes a tenth of the time."""
    definition = await connection.fetchval("select pg_get_indexdef($1::text::regclass)", name)
    await connection.execute(f"drop index {name}")
    yield
    await connection.execute(definition, timeout=300)


async def _rows(
    connection: Connection,
    library: Library,
    rows: range,
    ids: Sequence[UUID],
    spaces: Sequence[UUID],
    numbers: Sequence[int],
) -> None:
    """Documents do not cross from one slice into the next: both are multiples of their chunks."""
    documents = [uuid4() for _ in range(len(rows) // CHUNKS_A_DOCUMENT + 1)]
    of = [documents[(row - rows.start) // CHUNKS_A_DOCUMENT] for row in rows]
    chunks = [library.chunks[row] for row in rows]
    async with connection.transaction():
        await _documents(connection, chunks, of, spaces)
        await _words(connection, [ids[row] for row in rows], chunks, of, numbers)
        fields = [
            same(COMPANY.encode()),
            as_bytes([ids[row].bytes for row in rows], 16),
            (">i4", [numbers[chunk.space] for chunk in chunks]),
            as_bytes([id.bytes for id in of], 16),
            vectors_of(library.vectors[rows.start : rows.stop], "f2"),
        ]
        columns = ["company_id", "chunk_id", "space", "document_id", "h"]
        data = copied(len(rows), fields)
        await connection.copy_to_table("vectors", source=data, columns=columns, format="binary", timeout=300)


async def _documents(
    connection: Connection, chunks: Sequence[Chunk], of: Sequence[UUID], spaces: Sequence[UUID]
) -> None:
    """With the titles, and the titles' vectors, of real ones."""
    first = {id: chunk for chunk, id in zip(reversed(chunks), reversed(of), strict=True)}
    await connection.execute(
        """
        insert into documents (id, company_id, space_id, identity, title, tags, version, searchable, title_vector)
        select x.id, $4, x.space, x.id::text, d.title, d.tags, 1, 1, d.title_vector
        from unnest($1::uuid[], $2::uuid[], $3::uuid[]) as x (id, seed, space) join documents d on d.id = x.seed
        """,
        *(list(first), [chunk.seed for chunk in first.values()], [spaces[chunk.space] for chunk in first.values()]),
        COMPANY,
    )


async def _words(
    connection: Connection,
    ids: Sequence[UUID],
    chunks: Sequence[Chunk],
    of: Sequence[UUID],
    numbers: Sequence[int],
) -> None:
    await connection.execute(
        """
        create temp table library (id uuid, space int, document uuid, ord int, body text, folded text, terms int[],
                                   length int, lexemes text[], weights text) on commit drop
        """
    )
    records = []
    for at, (id, chunk, document) in enumerate(zip(ids, chunks, of, strict=True)):
        indexed, number = chunk.indexed, numbers[chunk.space]
        weights = sparse(indexed.terms, indexed.weights)
        words = (indexed.folded, indexed.terms, indexed.length, [*indexed.lexemes, lexeme_of(number)], weights)
        records.append((id, number, document, at % CHUNKS_A_DOCUMENT, chunk.body, *words))
    await connection.copy_records_to_table("library", records=records, timeout=300)
    await connection.execute(
        """
        insert into chunks (id, company_id, space, document_id, version, ord, start, stop, body, folded, terms, length)
        select id, $1, space, document, 1, ord, ord * 10000, ord * 10000 + length(body), body, folded, terms, length
        from library
        """,
        COMPANY, timeout=300,
    )  # fmt: skip
    await connection.execute(
        f"""
        insert into lexemes (chunk_id, company_id, space, document_id, ts, weights)
        select id, $1, space, document, array_to_tsvector(lexemes), weights::sparsevec({PLACES}) from library
        """,
        COMPANY, timeout=300,
    )  # fmt: skip


async def _count(connection: Connection, numbers: Sequence[int]) -> None:
    await connection.execute(
        """
        insert into terms (space, term, n) select c.space, x.term, count(*) from chunks c, unnest(c.terms) as x (term)
        where c.space = any($1) group by c.space, x.term
        """,
        numbers, timeout=300,
    )  # fmt: skip
    await connection.execute(
        """
        insert into space_stats (space, space_id, documents, chunks, length)
        select c.space, s.id, count(distinct document_id), count(*), sum(length)
        from chunks c join spaces s on s.number = c.space where c.space = any($1) group by c.space, s.id
        """,
        numbers, timeout=300,
    )  # fmt: skip


async def numbers_of(connection: Connection, spaces: Sequence[UUID]) -> list[int]:
    rows = await connection.fetch("select id, number from spaces where id = any($1)", list(spaces))
    by_id = {row["id"]: int(row["number"]) for row in rows}
    return [by_id[id] for id in spaces]


async def partition_of(connection: Connection) -> str:
    name: str = await connection.fetchval(
        "select p.relname from vectors v join pg_class p on p.oid = v.tableoid where v.company_id = $1 limit 1", COMPANY
    )
    return name


async def studied(
    pool: Pool, numbers: Sequence[int], vector: str, words: str, weights: Mapping[int, float], *, graph: bool
) -> None:
    """The study's statement over our tables, 50 of each leg: no rights, no filters, no receipt, no counts."""
    near = "v.company_id = $1 and v.space = any($2::int[]) offset 0) x order by h <#> $3::text::halfvec limit 50"
    dense = f"select chunk_id from (select v.chunk_id, v.h from vectors v where {near}"
    if graph:
        dense = """select v.chunk_id from vectors v
            where v.company_id = $1 and vector_dims(v.h) = 384 and v.space + 0 = any($2::int[])
            order by v.h::halfvec(384) <#> $3::text::halfvec(384) limit 50"""
    await pool.fetch(
        f"""
        with d as materialized ({dense}), l as materialized (
            select chunk_id from (select chunk_id, weights from lexemes
                                  where company_id = $1 and ts @@ $4::text::tsquery offset 0) x
            order by weights <#> $5::text::sparsevec({PLACES}) limit 50),
        u as (select chunk_id from d union select chunk_id from l)
        select u.chunk_id, -(v.h <#> $3::text::halfvec) as cosine, -(x.weights <#> $5::text::sparsevec({PLACES})) as bm25,
               -(t.title_vector <#> $3::text::halfvec) as title, k.folded, k.body, k.header, k.document_id, k.version,
               k.start, k.stop, k.page, t.title
        from u join vectors v on v.company_id = $1 and v.chunk_id = u.chunk_id join lexemes x on x.chunk_id = u.chunk_id
        join chunks k on k.id = u.chunk_id join documents t on t.id = k.document_id
        where v.space = any($2::int[])
        """,
        *(COMPANY, list(numbers), vector, words, sparse(list(weights), list(weights.values()))),
    )
