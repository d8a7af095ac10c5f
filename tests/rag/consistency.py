"""What must hold of rag's tables once nothing is under way: exactly what is searched, counted exactly, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from tests.rag.conftest import World

#: each finds what is wrong
RULES: Mapping[str, str] = {
    "work is over": "select kind, ref from jobs where state in ('queued', 'running')",
    "versions have ended": "select document_id, state from versions where state not in ('ready', 'failed', 'needs_ocr')",
    "nothing is being built": "select document_id, version from building",
    "nothing waits to be told": "select * from remade",
    "a space has one index": """
        select space from space_stats t where not exists (select from spaces s where s.number = t.space)
        union all select number from spaces where next is not null""",
    "chunks are of the version and the index that are searched": """
        select c.document_id, c.version, c.space from chunks c where not exists (
            select from documents d join spaces s on s.id = d.space_id
            where d.id = c.document_id and s.number = c.space and d.searchable = c.version)""",
    "a version is there whole": """
        select d.id, v.chunks, x.* from documents d join versions v on v.document_id = d.id and v.version = d.searchable,
            lateral (select count(*) as n, max(ord) + 1 as places from chunks c where c.document_id = d.id) x
        where (x.n, x.places, v.done) is distinct from (v.chunks, v.chunks, v.chunks)""",
    "each chunk has its words and its vector": """
        select coalesce(c.id, l.chunk_id, v.chunk_id), c.id is null, l.chunk_id is null, v.chunk_id is null
        from chunks c full join lexemes l on (l.chunk_id, l.space, l.document_id) = (c.id, c.space, c.document_id)
        full join vectors v on (v.chunk_id, v.space, v.document_id) = (c.id, c.space, c.document_id)
        where c.id is null or l.chunk_id is null or v.chunk_id is null""",
    "words are counted": """
        select t.*, x.* from terms t full join (
            select c.space, x.term, count(*) as n from chunks c, unnest(c.terms) as x (term) group by c.space, x.term) x
        on (x.space, x.term) = (t.space, t.term) where t.n is distinct from x.n""",
    "chunks are counted": """
        select t.*, x.* from space_stats t left join (
            select space, count(distinct document_id) as documents, count(*) as chunks, sum(length) as length
            from chunks group by space) x on x.space = t.space
        where (t.documents, t.chunks, t.length)
              is distinct from (coalesce(x.documents, 0), coalesce(x.chunks, 0), coalesce(x.length, 0))""",
    "vectors are of the space's model": """
        select d.id, s.dimension, vector_dims(v.h) from vectors v join spaces s on s.number = v.space
        join documents d on d.id = v.document_id
        where vector_dims(v.h) <> s.dimension or vector_dims(d.title_vector) is distinct from s.dimension""",
    "bytes are there that a version names, and no others": """
        select x.sha256, o.* from (
            select company_id, sha256 from versions union select company_id, text_sha256 from versions
            where text_sha256 is not null) x
        full join objects o on o.company_id = x.company_id and o.sha256 = x.sha256
        where x.sha256 is null or o.sha256 is null or not o.stored or o.doomed_at is not null""",
}
#: of a document, in one snapshot: the versions of its chunks that are searched, how many those are, and by which models
SEARCHED = """
select count(*) as n, max(c.ord) + 1 as places, array_agg(distinct c.version) as versions,
       array_agg(distinct vector_dims(v.h) - s.dimension) as off, count(v.h) as with_vectors
from documents d join spaces s on s.id = d.space_id join chunks c on c.space = s.number and c.document_id = d.id
left join vectors v on v.company_id = c.company_id and v.chunk_id = c.id where d.id = $1
"""


async def faults(world: World) -> dict[str, list[Any]]:
    """Rules that are broken, and by what."""
    found = {name: await world.rows(rule) for name, rule in RULES.items()}
    return {name: [dict(row) for row in rows[:3]] for name, rows in found.items() if rows}


async def news(world: World, document_id: UUID) -> list[tuple[str, int]]:
    """What has been told of a document: the fact, and of which version."""
    rows = await world.rows(
        "select split_part(subject, '.', 5) as fact, (convert_from(body, 'UTF8')::json ->> 'version')::int as version"
        " from outbox where story = $1 order by sequence",
        str(document_id),
    )
    return [(row["fact"], row["version"]) for row in rows]


async def searched_version(world: World, document_id: UUID) -> int | None:
    """The one that is searched now, none of whose chunks is missing and all of whose vectors are of the space's model."""
    (row,) = await world.rows(SEARCHED, document_id)
    if row["n"] == 0:
        return None
    assert (row["places"], row["with_vectors"], row["off"]) == (row["n"], row["n"], [0]), dict(row)
    (version,) = row["versions"]
    return int(version)
