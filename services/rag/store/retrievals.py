"""The SQL of retrievals: what the attempts of nodes were shown, under the numbers by which they cite it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from chassis.postgres import Connection, Pool
from contracts.knowledge import Findings, Found
from contracts.retrievals import MOST_AT_ONCE, GetRetrievals, Passage, Retrieval, Retrievals
from contracts.tool import ToolContext, ToolResult

GONE = ToolResult(text="What was found here has been removed since. Search again.")
HOLD = "select pg_advisory_xact_lock(hashtextextended('retrievals ' || $1::uuid::text, 3))"


class RetrievalStore:
    """Statements on one connection, or on the pool for reads that need no transaction."""

    def __init__(self, db: Connection | Pool) -> None:
        self._db = db

    async def note(self, company: str, where: ToolContext, query: str, findings: Findings, command_id: UUID) -> int:
        """The number of its first passage: they are counted through the attempt. Who retrieves at the same time waits."""
        await self._db.execute(HOLD, where.node_id)
        place = (where.node_id, where.attempt)
        last = await self._db.fetchval(
            "select coalesce(max(n), 0) from passages where node_id = $1 and attempt = $2", *place
        )
        await self._db.execute(
            """
            insert into retrievals (node_id, attempt, effect, company_id, run_id, query, receipt, degraded, command_id)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
            """,
            *(*place, where.effect, company, where.run_id, query),
            *(findings.receipt.model_dump(mode="json"), findings.degraded, command_id),
        )
        await self._db.executemany(
            """
            insert into passages (node_id, attempt, effect, n, document_id, external_id, title, version, space_id, chunk_id,
                                  start, stop, page, score, body)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
            """,
            [(*place, where.effect, n, *_row(item)) for n, item in enumerate(findings.items, last + 1)],
        )
        return int(last) + 1

    async def still_there(self, items: Sequence[Found]) -> list[Found]:
        """Those whose documents were not removed since; who removes one now waits for the commit."""
        rows = await self._db.fetch(
            "select id from documents where id = any($1) order by id for key share",
            list({item.document.id for item in items}),
        )
        there = {row["id"] for row in rows}
        return [item for item in items if item.document.id in there]

    async def of(self, ask: GetRetrievals) -> Retrievals:
        rows = await self._db.fetch(
            """
            select * from (
                select r.run_id, r.node_id, r.attempt, r.effect, r.query, r.receipt, r.degraded, r.created_at,
                       (select json_build_object(
                            'tokens', sum(e.tokens), 'estimated', bool_or(e.estimated),
                            'cost_usd', case when count(*) = count(e.cost_usd) then trim_scale(sum(e.cost_usd))::text end)
                        from embedding_calls e
                        where (e.node_id, e.attempt, e.effect) = (r.node_id, r.attempt, r.effect)
                        having count(*) > 0) as bought
                from retrievals r where r.company_id = $1 and r.run_id = $2 and ($3::uuid is null or r.node_id = $3)
                and ($4::int is null or r.attempt = $4) order by r.created_at desc, r.effect desc
                limit $5 offset $6) x
            order by created_at, effect
            """,
            *(ask.company, ask.run_id, ask.node_id, ask.attempt, MOST_AT_ONCE, ask.offset),
        )
        shown = await self._passages([row["node_id"] for row in rows])
        made = (
            dict(row) | {"passages": shown.get((row["node_id"], row["attempt"], row["effect"]), [])} for row in rows
        )
        return Retrievals(items=[Retrieval.model_validate(each) for each in made])

    async def _passages(self, nodes: Sequence[UUID]) -> dict[tuple[UUID, int, int], list[Passage]]:
        rows = await self._db.fetch(
            """
            select node_id, attempt, effect, n, document_id, external_id, title, version, space_id, chunk_id, start, stop,
                   page, score, body
            from passages where node_id = any($1) order by n
            """,
            list(set(nodes)),
        )
        found: dict[tuple[UUID, int, int], list[Passage]] = {}
        for row in rows:
            found.setdefault((row["node_id"], row["attempt"], row["effect"]), []).append(
                Passage(
                    n=row["n"],
                    document=Found.Of(
                        id=row["document_id"],
                        external_id=row["external_id"],
                        title=row["title"],
                        version=row["version"],
                    ),
                    space_id=row["space_id"],
                    chunk_id=row["chunk_id"],
                    offsets=(row["start"], row["stop"]),
                    page=row["page"],
                    score=row["score"],
                    text=row["body"],
                )
            )
        return found

    async def forget(self, documents: Sequence[UUID]) -> None:
        """That they were shown stays on record; what they said does not, nor the answer that said it."""
        await self._db.execute(
            """
            update commands c set answer = $2 from passages p join retrievals r using (node_id, attempt, effect)
            where p.document_id = any($1) and p.body is not null and c.command_id = r.command_id
            """,
            *(list(documents), GONE.model_dump(mode="json")),
        )
        await self._db.execute(
            "update passages set body = null where document_id = any($1) and body is not null", list(documents)
        )


def _row(item: Found) -> tuple[Any, ...]:
    of = item.document
    return (
        *(of.id, of.external_id, of.title, of.version, item.space_id, item.chunk_id),
        *(*item.offsets, item.page, item.score, item.text),
    )
