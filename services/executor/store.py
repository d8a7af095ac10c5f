"""The SQL of questions. Runs are started in starting/, steered in steering/ and moved in engine/."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg

from chassis.postgres import Connection, Pool
from contracts.errors import Code, Rejection
from contracts.executor import (
    Control,
    ListNodes,
    ListRuns,
    Node,
    NodeDetail,
    Run,
    RunSummary,
)
from contracts.sidecar_requests import ListSidecars, SidecarDocument
from services.executor.domain.facts import SPENT, Spend, known
from services.executor.domain.purchases import LAST_OF_ITS_OWN

CONTROL = """wanted, control_asked_at, control_by, control_mode, control_effective_at,
    case when control_asked_at is not null and control_effective_at is null and wanted <> 'run'
         then (select count(*) from nodes where run_id = runs.id and nodes.status = 'running') else 0 end as finishing"""
#: in canceled runs, and of nodes that were skipped, nothing waits any more
HELD = """(n.verdict->>'effect' = 'hold' or 'verdict' = any (n.pause_reasons))
    and n.status in ('paused', 'completed', 'reviewing')"""
NEEDS_A_PERSON = f"""(status <> 'canceled' and exists (select from nodes n where n.run_id = runs.id and {HELD}))"""
RUN = f"""id, company_id, project_id, task_id, plan_id, title, status, pause_reasons, gate, dry_run, error,
    request_id, meta, created_at, started_at, ended_at, reuses_run_id, activation,
    {NEEDS_A_PERSON} as needs_attention, {CONTROL}"""
NODE = f"""id, run_id, key, title, status, role, spec->>'agent_id' as agent_id, checksum, deps, attempt, error, model,
    {", ".join(SPENT)}, left(output, 2000) as output_preview, output_size, due_at,
    started_at, ended_at, created_at, updated_at, pause_reasons, reused_from, verdict,
    coalesce(duration_ms, (extract(epoch from ended_at - started_at) * 1000)::int) as duration_ms"""

RUN_ORDERS = {n: n for n in ("created_at", "started_at", "ended_at", "status")} | {"title": "lower(title)"}
NODE_ORDERS = {n: n for n in ("key", "status", "role", "created_at", "updated_at", "started_at")} | {
    "title": "lower(title)"
}

SIDECAR_ORDERS = {"created_at": "s.id", "node": "n.key", "attempt": "s.attempt", "call": "s.call"}


async def control_of(connection: Connection, run_id: UUID) -> Control | None:
    row = await connection.fetchrow(f"select {CONTROL} from runs where id = $1", run_id)
    return _control(row) if row else None


class RunStore:
    """Answers to questions."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Connection]:
        """Several questions about one moment."""
        async with (
            self._pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            yield connection

    async def run(self, connection: Connection, company: str, run_id: UUID) -> Run:
        row = await connection.fetchrow(f"select {RUN} from runs where id = $1 and company_id = $2", run_id, company)
        if row is None:
            raise Rejection(Code.NOT_FOUND, f"there is no run {run_id}")
        return _run(row)

    async def summary(self, connection: Connection, run: Run) -> RunSummary:
        row = await connection.fetchrow(
            """select count(*) as nodes_total,
                      count(*) filter (where status = 'completed') as nodes_completed,
                      count(*) filter (where status = 'failed') as nodes_failed,
                      sum(prompt_tokens)::bigint as llm_prompt_tokens,
                      sum(completion_tokens)::bigint as llm_completion_tokens,
                      sum(prompt_tokens + completion_tokens)::bigint as llm_total_tokens,
                      sum(requests)::bigint as llm_request_count,
                      sum(cost_usd) as cost, sum(estimated_calls)::int as estimated_calls,
                      sum(unpriced_calls)::int as unpriced_calls,
                      latency.average as llm_avg_latency_ms, latency.p95 as llm_p95_latency_ms,
                      (extract(epoch from coalesce($3, clock_timestamp()) - $2::timestamptz) * 1000)::bigint
                          as duration_ms
               from nodes,
                    (select avg(duration_ms)::float8 as average,
                            percentile_cont(0.95) within group (order by duration_ms) as p95
                     from attempts where run_id = $1 and requests > 0) as latency
               where run_id = $1 group by latency.average, latency.p95""",
            run.id, run.started_at, run.ended_at,
        )  # fmt: skip
        assert row is not None, "every run has nodes"
        return RunSummary(
            **{k: v for k, v in row.items() if k != "cost"}, cost_usd=known(row["cost"], row["unpriced_calls"])
        )

    async def nodes(self, connection: Connection, run_id: UUID) -> list[Node]:
        rows = await connection.fetch(f"select {NODE} from nodes where run_id = $1 order by position", run_id)
        return [Node(**_node(row)) for row in rows]

    async def node(self, company: str, node_id: UUID) -> NodeDetail:
        row = await self._pool.fetchrow(
            f"""select {NODE}, case when output_ref is null then output end as output, output_ref
                from nodes where id = $1 and company_id = $2""",
            node_id, company,
        )  # fmt: skip
        if row is None:
            raise Rejection(Code.NOT_FOUND, f"there is no node {node_id}")
        return NodeDetail(**_node(row), output=row["output"], output_ref=row["output_ref"])

    async def list_runs(self, connection: Connection, q: ListRuns) -> tuple[list[Run], int]:
        filters = """from runs where company_id = $1
            and ($2::text is null or status = $2)
            and ($3::text is null or strpos(lower(title), lower($3)) > 0)
            and ($4::timestamptz is null or started_at >= $4)
            and ($5::timestamptz is null or started_at <= $5)
            and ($6::uuid is null or task_id = $6)"""
        given = (q.company, q.status, q.title_contains, q.started_from, q.started_to, q.task_id)
        order = ordering(q.order_by, RUN_ORDERS, "created_at desc")
        rows = await connection.fetch(
            f"select {RUN} {filters} order by {order}, id limit $7 offset $8", *given, q.limit, q.offset
        )
        return [_run(row) for row in rows], await connection.fetchval(f"select count(*) {filters}", *given)

    async def list_nodes(self, connection: Connection, q: ListNodes) -> tuple[list[Node], int]:
        filters = """from nodes where company_id = $1 and run_id = $2
            and ($3::text is null or status = $3)
            and ($4::text is null or key = $4)
            and ($5::text is null or strpos(lower(title), lower($5)) > 0)
            and ($6::text is null or role = $6)
            and ($7::text is null or checksum = $7)"""
        given = (q.company, q.run_id, q.status, q.key, q.title_contains, q.role, q.checksum)
        order = ordering(q.order_by, NODE_ORDERS, "position")
        rows = await connection.fetch(
            f"select {NODE} {filters} order by {order}, position limit $8 offset $9", *given, q.limit, q.offset
        )
        return [Node(**_node(row)) for row in rows], await connection.fetchval(f"select count(*) {filters}", *given)

    async def list_sidecars(self, connection: Connection, q: ListSidecars) -> tuple[list[SidecarDocument], int]:
        filters = """from nodes n join sidecars s on s.node_id = n.id where n.company_id = $1 and n.run_id = $2
            and ($3::uuid is null or n.id = $3)
            and ($4::int is null or s.attempt = $4)"""
        given = (q.company, q.run_id, q.node_id, q.attempt)
        order = ordering(q.order_by, SIDECAR_ORDERS, "s.id")
        rows = await connection.fetch(
            f"select n.key, s.attempt, s.call, s.document {filters} order by {order}, s.id limit $5 offset $6",
            *given, q.limit, q.offset,
        )  # fmt: skip
        return [_sidecar(row) for row in rows], await connection.fetchval(f"select count(*) {filters}", *given)

    async def sidecar(self, node: UUID, attempt: int | None, call: int | None) -> SidecarDocument | None:
        """Of the latest call that fits; one that was not the attempt's own only when it is asked for by its number."""
        row = await self._pool.fetchrow(
            """select n.key, s.attempt, s.call, s.document from nodes n join sidecars s on s.node_id = n.id
               where n.id = $1 and ($2::int is null or s.attempt = $2)
                   and (s.call = $3 or $3::int is null and s.call <= $4
                        and s.document->'metadata'->>'role' is distinct from 'reviewer')
               order by s.attempt desc, s.call desc limit 1""",
            node, attempt, call, LAST_OF_ITS_OWN,
        )  # fmt: skip
        return _sidecar(row) if row else None


def _sidecar(row: asyncpg.Record) -> SidecarDocument:
    """Older ones do not name their attempt, and what broke names nothing."""
    document = row["document"]
    place = {"node": row["key"], "attempt": row["attempt"], "call": row["call"]}
    return SidecarDocument(document=document | {"metadata": document.get("metadata", {}) | place})


def _control(row: asyncpg.Record) -> Control | None:
    if row["control_asked_at"] is None:
        return None
    return Control(
        wanted=row["wanted"],
        asked_at=row["control_asked_at"],
        asked_by=row["control_by"],
        mode=row["control_mode"],
        effective_at=row["control_effective_at"],
        finishing=row["finishing"],
    )


def _run(row: asyncpg.Record) -> Run:
    return Run(**dict(row), control=_control(row))


def _node(row: asyncpg.Record) -> dict[str, Any]:
    hidden = (*SPENT, "output", "output_ref")
    return {**{k: v for k, v in row.items() if k not in hidden}, "usage": Spend.of(row).usage()}


def ordering(wanted: str | None, allowed: dict[str, str], default: str) -> str:
    if wanted is None:
        return default
    column = allowed.get(wanted.removeprefix("-"))
    if column is None:
        message = f"order_by must be one of {', '.join(allowed)}, with a leading - for descending"
        raise Rejection(Code.INVALID, message, errors=[{"loc": ["order_by"], "msg": message}])
    return f"{column} {'desc' if wanted.startswith('-') else 'asc'} nulls last"
