"""The SQL of starting a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg

from chassis.context import Context
from chassis.postgres import Connection
from contracts.executor import StartRun
from services.executor.domain.reuse import Earlier, Spec
from services.executor.engine.store import NODE_COLUMNS, RUN_COLUMNS


class EarlierRun(NamedTuple):
    id: UUID
    task_id: UUID | None
    title: str
    dry_run: bool


async def insert_run(connection: Connection, request: StartRun, context: Context) -> asyncpg.Record | None:
    """As its owner reads it, with the row's version. None when it conflicts with another run: itself, or an active one of
    the same task."""
    timeout = timedelta(seconds=request.timeout_s) if request.timeout_s is not None else None
    return await connection.fetchrow(
        f"""insert into runs as r (id, company_id, project_id, task_id, plan_id, plan_version, title, gate, dry_run, meta,
               timeout, time_left, context, request_id, reuses_run_id, wake_at)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11, $12, $13, $14, clock_timestamp())
           on conflict do nothing returning {RUN_COLUMNS}, r.xmin""",
        request.run_id, request.company, request.project, request.task_id, request.plan_id, request.plan_version,
        request.title, request.gate, request.dry_run, request.meta, timeout, asdict(context),
        context.request_id, request.reuse_run_id,
    )  # fmt: skip


async def insert_nodes(
    connection: Connection, request: StartRun, specs: Mapping[UUID, Spec], reused: Mapping[str, Earlier]
) -> list[asyncpg.Record]:
    """`specs` by the node's new id, in plan order, as are the rows; those of `reused` come with their result, and have cost
    nothing."""
    sources = [reused[spec["key"]].id if spec["key"] in reused else None for spec in specs.values()]
    rows = await connection.fetch(
        f"""insert into nodes (id, run_id, company_id, key, position, title, role, spec, deps, reused_from, status,
               ended_at, output, output_ref, output_size, checksum, model)
           select x.id, $1, $2, x.spec->>'key', x.position, x.spec->>'title', x.spec->>'role', x.spec,
                  array(select jsonb_array_elements_text(x.spec->'deps')), e.id,
                  case when e.id is null then 'queued' else 'completed' end,
                  case when e.id is not null then clock_timestamp() end,
                  e.output, e.output_ref, e.output_size, e.checksum, e.model
           from unnest($3::uuid[], $4::jsonb[], $5::uuid[]) with ordinality as x (id, spec, source, position)
                left join nodes e on e.id = x.source
           returning {NODE_COLUMNS}""",
        request.run_id, request.company, list(specs), list(specs.values()), sources,
    )  # fmt: skip
    by_id = {row["id"]: row for row in rows}
    return [by_id[node_id] for node_id in specs]


async def active_run(connection: Connection, company: str, task_id: UUID | None) -> UUID | None:
    found: UUID | None = await connection.fetchval(
        """select id from runs
           where company_id = $1 and task_id = $2 and (status in ('queued', 'running', 'paused') or reopening)""",
        company, task_id,
    )  # fmt: skip
    return found


async def exists(connection: Connection, company: str, run_id: UUID) -> bool:
    return bool(await connection.fetchval("select true from runs where id = $1 and company_id = $2", run_id, company))


async def activation_of(connection: Connection, run_id: UUID) -> int:
    found: int = await connection.fetchval("select activation from runs where id = $1", run_id)
    return found


async def earlier_run(connection: Connection, company: str, run_id: UUID) -> EarlierRun | None:
    """Locked: it is neither pruned nor reopened before its results are copied."""
    row = await connection.fetchrow(
        "select id, task_id, title, dry_run from runs where id = $1 and company_id = $2 for key share", run_id, company
    )
    return EarlierRun(**row) if row else None


async def results_of(connection: Connection, run_id: UUID) -> Sequence[Earlier]:
    rows: list[Any] = await connection.fetch(
        """select id, checksum, spec, status = 'completed' and verdict->>'effect' is distinct from 'hold' as completed
           from nodes where run_id = $1""",
        run_id,
    )
    return [Earlier(**row) for row in rows]
