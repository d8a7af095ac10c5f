"""The SQL of orders and questions: starts and controls runs, and reads them. What moves runs is in engine/store.py."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import asyncpg

from chassis.context import Context
from chassis.postgres import Connection, Pool
from contracts.errors import Code, Rejection
from contracts.executor import (
    ListNodes,
    ListRuns,
    Node,
    NodeDetail,
    Run,
    RunAction,
    RunNode,
    RunStatus,
    RunSummary,
    StartRun,
    Usage,
    Wanted,
)
from contracts.plan import Gate
from services.executor.domain.facts import money

RUN = """id, company_id, project_id, task_id, plan_id, title, status, wanted, pause_reasons, gate, dry_run, error,
    request_id, meta, created_at, started_at, ended_at"""
NODE = """id, run_id, key, title, status, role, spec->>'agent_id' as agent_id, checksum, deps, attempt, error, model,
    prompt_tokens, completion_tokens, requests, cost_usd, left(output, 2000) as output_preview, output_size, due_at,
    started_at, ended_at, created_at, updated_at,
    coalesce(duration_ms, (extract(epoch from ended_at - started_at) * 1000)::int) as duration_ms"""

RUN_ORDERS = {n: n for n in ("created_at", "started_at", "ended_at", "status")} | {"title": "lower(title)"}
NODE_ORDERS = {n: n for n in ("key", "status", "role", "created_at", "updated_at", "started_at")} | {
    "title": "lower(title)"
}


class Standing(NamedTuple):
    status: RunStatus
    wanted: Wanted
    reopening: bool  # it has failed, and an order that makes it go on waits for its owner


async def insert_run(connection: Connection, request: StartRun, nodes: Sequence[RunNode], context: Context) -> bool:
    """False when it conflicts with another run: itself, or an active one of the same task."""
    timeout = timedelta(seconds=request.timeout_s) if request.timeout_s is not None else None
    inserted = await connection.fetchval(
        """insert into runs (id, company_id, project_id, task_id, plan_id, plan_version, title, gate, dry_run, meta,
               timeout, time_left, context, request_id, wake_at)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11, $12, $13, clock_timestamp())
           on conflict do nothing returning true""",
        request.run_id, request.company, request.project, request.task_id, request.plan_id, request.plan_version,
        request.title, request.gate or Gate.OFF, request.dry_run, request.meta, timeout, asdict(context),
        context.request_id,
    )  # fmt: skip
    if inserted:
        await _insert_nodes(connection, request, nodes)
    return bool(inserted)


async def _insert_nodes(connection: Connection, request: StartRun, nodes: Sequence[RunNode]) -> None:
    specs = [node.model_dump(mode="json") for node in nodes]
    await connection.execute(
        """insert into nodes (id, run_id, company_id, key, position, title, role, spec, deps)
           select x.id, $1, $2, x.spec->>'key', x.position, x.spec->>'title', x.spec->>'role', x.spec,
                  array(select jsonb_array_elements_text(x.spec->'deps'))
           from unnest($3::uuid[], $4::jsonb[]) with ordinality as x (id, spec, position)""",
        request.run_id, request.company, [uuid4() for _ in nodes], specs,
    )  # fmt: skip


async def active_run(connection: Connection, company: str, task_id: UUID | None) -> UUID | None:
    found: UUID | None = await connection.fetchval(
        """select id from runs
           where company_id = $1 and task_id = $2 and status in ('queued', 'running', 'paused')""",
        company, task_id,
    )  # fmt: skip
    return found


async def exists(connection: Connection, company: str, run_id: UUID) -> bool:
    return bool(await connection.fetchval("select true from runs where id = $1 and company_id = $2", run_id, company))


async def lock_run(connection: Connection, company: str, run_id: UUID) -> Standing | None:
    """Nobody else gives the run an order, and its owner takes none, until this transaction ends."""
    row = await connection.fetchrow(
        "select status, wanted from runs where id = $1 and company_id = $2 for update", run_id, company
    )
    if row is None:
        return None
    reopening = row["status"] == RunStatus.FAILED and await connection.fetchval(
        "select exists (select from signals where run_id = $1 and kind = 'skip_failed_and_resume')", run_id
    )
    return Standing(RunStatus(row["status"]), Wanted(row["wanted"]), reopening)


async def failed_nodes(connection: Connection, run_id: UUID) -> list[str]:
    rows = await connection.fetch(
        "select key from nodes where run_id = $1 and status = 'failed' order by position", run_id
    )
    return [row["key"] for row in rows]


async def leave_order(connection: Connection, run_id: UUID, action: RunAction, wanted: Wanted) -> None:
    """For the run's owner, or for whoever claims it: `wake_at` keeps it from being slept over."""
    await connection.execute("insert into signals (run_id, kind) values ($1, $2)", run_id, action)
    await connection.execute(
        "update runs set wanted = $2, wake_at = clock_timestamp(), updated_at = clock_timestamp() where id = $1",
        run_id, wanted,
    )  # fmt: skip


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
        return Run(**dict(row))

    async def summary(self, connection: Connection, run: Run) -> RunSummary:
        row = await connection.fetchrow(
            """select count(*) as nodes_total,
                      count(*) filter (where status = 'completed') as nodes_completed,
                      count(*) filter (where status = 'failed') as nodes_failed,
                      sum(prompt_tokens)::bigint as llm_prompt_tokens,
                      sum(completion_tokens)::bigint as llm_completion_tokens,
                      sum(prompt_tokens + completion_tokens)::bigint as llm_total_tokens,
                      sum(requests)::bigint as llm_request_count,
                      case when bool_or(cost_usd is null) then null else sum(cost_usd) end as cost,
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
        return RunSummary(**{k: v for k, v in row.items() if k != "cost"}, cost_usd=money(row["cost"]))

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
        order = _order(q.order_by, RUN_ORDERS, "created_at desc")
        rows = await connection.fetch(
            f"select {RUN} {filters} order by {order}, id limit $7 offset $8", *given, q.limit, q.offset
        )
        return [Run(**dict(row)) for row in rows], await connection.fetchval(f"select count(*) {filters}", *given)

    async def list_nodes(self, connection: Connection, q: ListNodes) -> tuple[list[Node], int]:
        filters = """from nodes where company_id = $1 and run_id = $2
            and ($3::text is null or status = $3)
            and ($4::text is null or key = $4)
            and ($5::text is null or strpos(lower(title), lower($5)) > 0)
            and ($6::text is null or role = $6)
            and ($7::text is null or checksum = $7)"""
        given = (q.company, q.run_id, q.status, q.key, q.title_contains, q.role, q.checksum)
        order = _order(q.order_by, NODE_ORDERS, "position")
        rows = await connection.fetch(
            f"select {NODE} {filters} order by {order}, position limit $8 offset $9", *given, q.limit, q.offset
        )
        return [Node(**_node(row)) for row in rows], await connection.fetchval(f"select count(*) {filters}", *given)


def _node(row: asyncpg.Record) -> dict[str, Any]:
    spent = Usage(
        prompt_tokens=row["prompt_tokens"],
        completion_tokens=row["completion_tokens"],
        requests=row["requests"],
        cost_usd=money(row["cost_usd"]),
    )
    hidden = ("prompt_tokens", "completion_tokens", "requests", "cost_usd", "output", "output_ref")
    return {**{k: v for k, v in row.items() if k not in hidden}, "usage": spent}


def _order(wanted: str | None, allowed: dict[str, str], default: str) -> str:
    if wanted is None:
        return default
    column = allowed.get(wanted.removeprefix("-"))
    if column is None:
        message = f"order_by must be one of {', '.join(allowed)}, with a leading - for descending"
        raise Rejection(Code.INVALID, message, errors=[{"loc": ["order_by"], "msg": message}])
    return f"{column} {'desc' if wanted.startswith('-') else 'asc'} nulls last"
