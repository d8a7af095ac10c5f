"""The SQL of the search: who may read what is decided in the statement that reads, from one snapshot.

The path is chosen by code, not by the planner, which misjudges graphs under filters: `exact` compares every vector in scope,
`hnsw` walks the graph of the partition. The numbers of spaces that were planned with are only ever narrowed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from chassis.postgres import Pool
from contracts.knowledge import Embedder, Language, Right, Search
from services.rag.domain.analysis import PLACES
from services.rag.domain.question import Lexical
from services.rag.domain.ranking import Candidate
from services.rag.domain.rights import Who
from services.rag.store.index import dense, sparse
from services.rag.store.rights import PARAMETERS, arguments, open_to

#: of the connections that search: every statement is planned with what it is asked, joined in the order it is written in
SETTINGS = {
    "plan_cache_mode": "force_custom_plan",
    "join_collapse_limit": "1",
    "hnsw.ef_search": "400",
    "hnsw.iterative_scan": "relaxed_order",
    "hnsw.max_scan_tuples": "60000",
}
ASKED = f"""
select s.id, s.number, s.language, s.provider, s.model, s.dimension, coalesce(t.chunks, 0) as chunks, {open_to(3)} as is_open
from spaces s left join space_stats t on t.space = s.number
where s.company_id = $1 and ($2::uuid[] is null or s.id = any($2))
"""
#: with how many chunks of each have which of the terms
COUNTED = f"""
select a.*, coalesce(x.terms, '{{}}') as terms, coalesce(x.counts, '{{}}') as counts
from ({ASKED}) a left join lateral (
    select array_agg(t.term) as terms, array_agg(t.n) as counts from terms t
    where a.is_open and t.space = a.number and t.term = any(${3 + PARAMETERS}::int[])) x on true
"""
TOLD = 4  # columns of the one row that tells of all; the others have the fields of a candidate, in their order
#: a document's, in the index that is searched; only while an index has just been adopted is it another than its own
TITLE = """coalesce(case when exists (select from remade where space = any({numbers}::int[])) then
    (select r.title_vector from remade r where r.space = c.space and r.document_id = c.document_id) end, d.title_vector)"""
FILTER = """
{row}.document_id in (
    select d.id from documents d
    where d.company_id = $1 and ({documents}::uuid[] is null or d.id = any({documents}))
    and ({tags}::text[] is null or d.tags @> {tags}) and ({since}::date is null or d.dated >= {since})
    and ({until}::date is null or d.dated <= {until}))
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """A space that is asked for. `having`: how many of its chunks have a term of the question, by the term's place."""

    id: UUID
    number: int
    language: Language
    embedder: Embedder
    chunks: int
    is_open: bool
    having: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Leg:
    """The spaces of one model, and the question as it sees it. `graph` walks the graph instead of comparing all."""

    embedder: Embedder
    spaces: Sequence[int]
    vector: Sequence[float]
    graph: bool


@dataclass(frozen=True, slots=True)
class Filters:
    documents: Sequence[UUID] | None
    tags: Sequence[str] | None
    since: date | None
    until: date | None

    @classmethod
    def of(cls, ask: Search) -> Filters | None:
        """None when there are none."""
        found = cls(ask.document_ids, ask.tags or None, ask.dated_from, ask.dated_to)
        is_any = any(each is not None for each in (found.documents, found.tags, found.since, found.until))
        return found if is_any else None


@dataclass(frozen=True, slots=True)
class Searched:
    """`short` when the graph has given fewer than it was asked for."""

    spaces: list[UUID]
    chunks: int
    removed: int
    candidates: list[Candidate]
    short: bool


class Parameters(list[Any]):
    def add(self, value: Any) -> str:
        self.append(value)
        return f"${len(self)}"


class SearchStore:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def asked(self, company: str, spaces: Sequence[UUID] | None, who: Who, terms: Iterable[int]) -> list[Asked]:
        """`terms` by their places."""
        rows = await self._pool.fetch(COUNTED, *_asked(company, spaces, who), list(terms))
        return [_space(row) for row in rows]

    async def has_graph(self, company: str, dimension: int) -> bool:
        found = await self._pool.fetchval(
            """
            select exists (
                select from pg_index i join pg_class c on c.oid = i.indexrelid
                where i.indisvalid and c.relname = 'graph_' || $2::int || '_of_' || (
                    select p.relname from vectors v join pg_class p on p.oid = v.tableoid where v.company_id = $1 limit 1))
            """,
            *(company, dimension),
        )
        return bool(found)

    async def search(
        self,
        ask: Search,
        who: Who,
        planned: Sequence[int],
        legs: Sequence[Leg],
        lexical: Lexical | None,
        per_leg: int,
    ) -> Searched:
        parameters = Parameters(_asked(ask.company, ask.space_ids, who))
        statement = _statement(parameters, planned, legs, lexical, Filters.of(ask), per_leg)
        rows = await self._pool.fetch(statement, *parameters)
        (told,) = (row for row in rows if row["found"] is not None)
        short = any(leg.graph and n < per_leg for leg, n in zip(legs, told["found"], strict=True))
        found = [Candidate(*row[TOLD:]) for row in rows if row["found"] is None]
        return Searched(told["spaces"], told["in_scope"], told["removed"], found, short)


def _asked(company: str, spaces: Sequence[UUID] | None, who: Who) -> tuple[Any, ...]:
    return (company, None if spaces is None else list(spaces), *arguments(who, Right.READ))


def _statement(
    p: Parameters,
    planned: Sequence[int],
    legs: Sequence[Leg],
    lexical: Lexical | None,
    filters: Filters | None,
    per_leg: int,
) -> str:
    is_searched = bool(legs) or lexical is not None  # otherwise nothing would use the filter's parameters
    numbers, limit, kept = p.add(list(planned)), p.add(per_leg), _filter(p, filters if is_searched else None)
    vectors = [p.add(dense(leg.vector)) for leg in legs]
    models = [_model(p, leg.embedder) for leg in legs]
    ctes = [f"asked as materialized ({ASKED})"]
    for at, leg in enumerate(legs):
        ctes.append(f"dense_{at} as materialized ({_dense(p, leg, vectors[at], models[at], kept, limit)})")
    bm25 = "0"
    if lexical is not None:
        far = f"<#> {p.add(sparse(list(lexical.weights), list(lexical.weights.values())))}::text::sparsevec({PLACES})"
        bm25 = f"(select -(l.weights {far}) from lexemes l where l.chunk_id = c.id)"
        ctes.append(f"lexical as materialized ({_lexical(p, lexical, far, numbers, kept, limit)})")
    cosine = (
        f"(select {_by_model('v.h', vectors, models)} from vectors v where v.company_id = $1 and v.chunk_id = c.id)"
    )
    title = _by_model(TITLE.format(numbers=numbers), vectors, models)
    searched = f"(a.is_open and a.number = any({numbers}::int[]))"
    counted = ", ".join(f"(select count(*) from dense_{at})" for at in range(len(legs)))
    return f"""
    with {", ".join(ctes)}, told as (
        select coalesce(array_agg(a.id order by a.number) filter (where {searched}), '{{}}') as spaces,
               coalesce(sum(a.chunks) filter (where {searched}), 0)::bigint as in_scope,
               coalesce(sum(a.chunks) filter (where not a.is_open), 0)::bigint as removed,
               array[{counted}]::bigint[] as found
        from asked a)
    select told.*, f.* from told full join (
        select c.id as chunk_id, c.document_id, a.id as space_id, d.external_id, d.title as title_text, c.version, c.ord,
               c.start, c.stop, c.page, c.header, c.body, c.gap, c.folded,
               coalesce(u.cosine, {cosine}, 0) as cosine, coalesce(u.bm25, {bm25}, 0) as bm25, coalesce({title}, 0) as title
        from ({_union(len(legs), lexical is not None, limit)}) u join chunks c on c.id = u.chunk_id
        join documents d on d.id = c.document_id join asked a on a.number = c.space
        where c.company_id = $1 and {searched}
    ) f on false
    """


def _union(legs: int, has_words: bool, limit: str) -> str:
    """What the legs have found, with how near each has found it: what one leg knows of a chunk is not looked up again."""
    found = [f"select chunk_id, -far as cosine, null::float8 as bm25 from dense_{at}" for at in range(legs)]
    found += ["select chunk_id, null::float8, -far from lexical"] if has_words else []
    union = " union all ".join(found) or f"select null::uuid, null::float8, null::float8 limit least(0, {limit}::int)"
    return f"""
        select chunk_id, max(cosine) as cosine, max(bm25) as bm25 from ({union}) f (chunk_id, cosine, bm25)
        group by chunk_id"""


def _model(p: Parameters, embedder: Embedder) -> str:
    """As a condition over `asked a`: whose vectors were made by it."""
    provider, model, dimension = p.add(embedder.provider), p.add(embedder.model), p.add(embedder.dimension)
    return f"(a.provider = {provider}::text and a.model = {model}::text and a.dimension = {dimension}::int)"


def _by_model(column: str, vectors: Sequence[str], models: Sequence[str]) -> str:
    """Only vectors of one model are compared with one another."""
    if not vectors:
        return "null::float8"
    cases = (f"when {model} then -({column} <#> {v}::text::halfvec)" for v, model in zip(vectors, models, strict=True))
    return f"case {' '.join(cases)} end"


def _dense(p: Parameters, leg: Leg, vector: str, model: str, kept: str, limit: str) -> str:
    spaces = p.add(list(leg.spaces))
    still_open = f"array(select a.number from asked a where a.is_open and {model})"
    kept = kept.format(row="v")
    if not leg.graph:
        return f"""
        select chunk_id, h <#> {vector}::text::halfvec as far from (
            select v.chunk_id, v.h from vectors v
            where v.company_id = $1 and v.space = any({spaces}::int[]) and v.space = any({still_open}){kept} offset 0) x
        order by far limit {limit}
        """
    size = leg.embedder.dimension
    return f"""
    select v.chunk_id, v.h::halfvec({size}) <#> {vector}::text::halfvec({size}) as far from vectors v
    where v.company_id = $1 and vector_dims(v.h) = {size} and v.space + 0 = any({spaces}::int[])
    and v.space + 0 = any({still_open}){kept}
    order by far limit {limit}
    """


def _lexical(p: Parameters, lexical: Lexical, far: str, numbers: str, kept: str, limit: str) -> str:
    found, space, positive = "true", "l.space", f"where weights {far} < 0"
    if lexical.query is not None:  # each has something of it. `+ 0`: found by words, never by the index of its space
        found, space, positive = f"l.ts @@ {p.add(lexical.query)}::text::tsquery", "l.space + 0", ""
    return f"""
    select chunk_id, weights {far} as far from (
        select l.chunk_id, l.weights from lexemes l
        where {found} and l.company_id = $1 and {space} = any({numbers}::int[])
        and {space} = any(array(select a.number from asked a where a.is_open)){kept.format(row="l")} offset 0) x
    {positive}
    order by far limit {limit}
    """


def _filter(p: Parameters, filters: Filters | None) -> str:
    """With `{row}` for the table whose rows it keeps."""
    if filters is None:
        return ""
    names = {
        "documents": p.add(None if filters.documents is None else list(filters.documents)),
        "tags": p.add(None if filters.tags is None else list(filters.tags)),
        "since": p.add(filters.since),
        "until": p.add(filters.until),
    }
    return f" and {FILTER.format(row='{row}', **names)}"


def _space(row: Mapping[str, Any]) -> Asked:
    embedder = Embedder(provider=row["provider"], model=row["model"], dimension=row["dimension"])
    having = dict(zip(row["terms"], row["counts"], strict=True))
    return Asked(row["id"], row["number"], Language(row["language"]), embedder, row["chunks"], row["is_open"], having)
