"""The SQL behind GET /runs/{id}/waiting: a run, its nodes, its executor, orders and weather at one moment."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg

from chassis.postgres import Connection
from contracts.budgets import Shortage
from contracts.errors import Code, Rejection
from contracts.executor import NodeStatus, RunStatus, Wanted
from contracts.run_control import Runtime
from contracts.verdict import Verdict
from services.executor.domain.facts import known, money
from services.executor.domain.scene import DeadOrder, Order, Scene, SceneNode, Weather, Worker
from services.executor.engine import signals


async def scene(connection: Connection, company: str, run_id: UUID) -> Scene:
    """Raises Rejection(not_found). The connection must show one moment."""
    row = await connection.fetchrow(
        """select clock_timestamp() as now, r.status, r.wanted, r.control_by, r.control_asked_at, r.pause_reasons,
                  r.updated_at, r.wake_at, r.owner, w.host, w.lease_until, w.dead,
                  (select count(*) from nodes n join runs o on o.id = n.run_id
                   where o.owner = r.owner and n.status = 'running')::int as running
           from runs r left join workers w on w.id = r.owner where r.id = $1 and r.company_id = $2""",
        run_id, company,
    )  # fmt: skip
    if row is None:
        raise Rejection(Code.NOT_FOUND, f"there is no run {run_id}")
    return Scene(
        now=row["now"],
        run_id=run_id,
        status=RunStatus(row["status"]),
        wanted=Wanted(row["wanted"]),
        asked_by=row["control_by"],
        asked_at=row["control_asked_at"],
        pause_reasons=row["pause_reasons"],
        since=row["updated_at"],
        wake_at=row["wake_at"],
        owner=_worker(row),
        nodes=[_node(n) for n in await _nodes(connection, run_id)],
        orders=[_order(o) for o in await _orders(connection, run_id)],
        dead=[_dead(d) for d in await _dead_orders(connection, run_id)],
    )


async def _nodes(connection: Connection, run_id: UUID) -> list[Any]:
    return await connection.fetch(
        """select n.id, n.key, n.status, n.deps, n.attempt, n.error, n.updated_at, n.pause_reasons,
                  n.control_by, n.control_asked_at, n.verdict,
                  c.provider, c.model, c.reason, coalesce(c.until, c.probe_until) as until,
                  w.scope, w.scope_id, w.need_usd, w.model as short_of, w.note, b.limit_usd, b.spent_usd, b.reserved_usd,
                  case when n.parked_on is null or c.provider is not null then n.due_at end as due_at
           from nodes n left join circuits c
                on c.provider || '/' || c.model = n.parked_on and c.state <> 'closed' and n.status = 'queued'
                left join budget_waits w on w.node_id = n.id and n.status = 'paused'
                left join budgets b on (b.company_id, b.scope, b.scope_id) = (w.company_id, w.scope, w.scope_id)
           where n.run_id = $1 order by n.position""",
        run_id,
    )


async def _orders(connection: Connection, run_id: UUID) -> list[Any]:
    return await connection.fetch(
        """select s.kind, s.payload->>'key' as key, s.created_at, coalesce(s.payload->>'by', r.control_by) as by
           from signals s join runs r on r.id = s.run_id where s.run_id = $1 and s.kind <> all($2) order by s.id""",
        run_id,
        list(signals.BY_NOBODY),
    )


async def _dead_orders(connection: Connection, run_id: UUID) -> list[Any]:
    return await connection.fetch(
        """select id, subject as kind, body, reason, created_at, (headers->>'ce-time')::timestamptz as given_at
           from dead_letters where consumer = $2 and headers->>'ce-subject' = $1 and replayed_at is null
           order by created_at""",
        str(run_id), signals.DEAD_ORDERS,
    )  # fmt: skip


async def runtime(connection: Connection, company: str, run_id: UUID) -> Runtime:
    """Raises Rejection(not_found)."""
    row = await connection.fetchrow(
        """select r.status, r.owner, w.host, w.lease_until, r.error, r.started_at, r.ended_at
           from runs r left join workers w on w.id = r.owner where r.id = $1 and r.company_id = $2""",
        run_id, company,
    )  # fmt: skip
    if row is None:
        raise Rejection(Code.NOT_FOUND, f"there is no run {run_id}")
    states = await connection.fetch(
        """select status, count(*) as nodes, sum(attempt) as attempts, sum(cost_usd) as cost,
                  sum(estimated_calls)::int as estimated, sum(unpriced_calls)::int as unpriced
           from nodes where run_id = $1 group by status""",
        run_id,
    )
    unpriced = sum(s["unpriced"] for s in states)
    return Runtime(
        run_id=run_id,
        status=row["status"],
        nodes_by_status={NodeStatus(s["status"]): s["nodes"] for s in states},
        attempts=sum(s["attempts"] for s in states),
        worker_id=row["owner"],
        worker_host=row["host"],
        lease_until=row["lease_until"],
        error=row["error"],
        cost_usd=known(sum((s["cost"] or Decimal(0) for s in states), Decimal(0)), unpriced),
        estimated_calls=sum(s["estimated"] for s in states),
        unpriced_calls=unpriced,
        started_at=row["started_at"],
        ended_at=row["ended_at"],
    )


def _worker(row: asyncpg.Record) -> Worker | None:
    if row["host"] is None:
        return None
    return Worker(row["owner"], row["host"], row["lease_until"], row["dead"], row["running"])


def _node(row: asyncpg.Record) -> SceneNode:
    weather = Weather(row["provider"], row["model"], row["reason"], row["until"]) if row["provider"] else None
    return SceneNode(
        row["id"],
        row["key"],
        NodeStatus(row["status"]),
        row["deps"],
        row["attempt"],
        row["error"],
        row["due_at"],
        row["updated_at"],
        row["pause_reasons"],
        row["control_by"],
        row["control_asked_at"],
        weather,
        _shortage(row),
        Verdict.model_validate(row["verdict"]) if row["verdict"] else None,
    )


def _shortage(row: asyncpg.Record) -> Shortage | None:
    """None also when its budget has been removed meanwhile."""
    if row["limit_usd"] is None:
        return None
    sums = {name: money(row[name]) for name in ("limit_usd", "spent_usd", "reserved_usd", "need_usd")}
    about = {"scope": row["scope"], "scope_id": row["scope_id"], "model": row["short_of"], "note": row["note"]}
    return Shortage.model_validate(about | sums)


def _order(row: asyncpg.Record) -> Order:
    return Order(row["kind"].removeprefix("node_"), row["key"], row["created_at"], row["by"])


def _dead(row: asyncpg.Record) -> DeadOrder:
    payload = json.loads(row["body"])
    order = Order(row["kind"].removeprefix("node_"), payload.get("key"), row["given_at"], payload.get("by"))
    return DeadOrder(row["id"], order, row["reason"], row["created_at"])
