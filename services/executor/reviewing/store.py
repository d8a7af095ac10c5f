"""The SQL of reviews asked for from outside: cases, books, attempts, and nodes that wait for a person."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import asyncpg

from chassis.postgres import Connection, Pool
from contracts.executor import NodeStatus
from contracts.review import Attempt, Attempts, BookReview, GetReviewCase, Guidance, HeldNode, ListHeld, ReviewCase
from services.executor.domain.facts import SPENT, Spend
from services.executor.domain.purchases import LAST_OF_ITS_OWN
from services.executor.domain.waits_for import Link, waits_for
from services.executor.spending.booking.store import PURCHASES_OF_IT, TOOK, add_to_node
from services.executor.store import HELD, ordering

#: Of the node `n`, whether its row has the result of the attempt `a`. One that ran since, or is to, has left it to `a`.
IS_THE_NODES = "n.attempt = a.number and n.checksum is not null"
#: the node still stands by what the attempt brought
COUNTS = """(n.status in ('reviewing', 'completed') or n.status = 'paused'
    and (n.verdict is not null or 'verdict' = any (n.pause_reasons)))"""
HELD_SINCE = "coalesce((n.verdict->>'at')::timestamptz, n.updated_at)"
HELD_ORDERS = {"since": HELD_SINCE, "key": "n.key", "title": "lower(n.title)"}


async def case(pool: Pool, q: GetReviewCase) -> ReviewCase | None:
    row = await pool.fetchrow(
        f"""select r.id as run_id, r.title as run_title, r.project_id, r.task_id, n.id as node_id, a.number as attempt,
                  n.status, r.gate, n.spec, coalesce(s.author, a.requested) as author,
                  n.attempt = a.number and r.status <> 'canceled'
                      and (a.status is distinct from 'succeeded' or {COUNTS}) as current,
                  case when {IS_THE_NODES} then n.output else a.output end as output,
                  case when {IS_THE_NODES} then n.output_ref else a.output_ref end as output_ref,
                  case when {IS_THE_NODES} then n.output_size else a.output_size end as output_size,
                  case when {IS_THE_NODES} then n.checksum else a.checksum end as checksum,
                  (select count(*)::int from guidances g
                   where g.node_id = n.id and g.attempt <= a.number and g.revised) as revisions
           from nodes n join runs r on r.id = n.run_id
                cross join lateral (
                    select number, status, requested, output, output_ref, output_size, checksum
                    from attempts where node_id = n.id and number = coalesce($4, n.attempt)
                    union all
                    select 0, null, null, null, null, null, null where coalesce($4, n.attempt) = 0
                ) as a
                left join lateral (
                    select (document->'metadata'->>'provider') || '/' || (document->'metadata'->>'model_requested') as author
                    from sidecars where node_id = n.id and attempt = a.number and call = 1
                ) as s on true
           where n.id = $1 and n.company_id = $2 and ($3::uuid is null or n.run_id = $3)""",
        q.node_id, q.company, q.run_id, q.attempt,
    )  # fmt: skip
    return ReviewCase(**row) if row else None


async def book(connection: Connection, review: BookReview) -> int | None:
    """The number of the call within its attempt; None when there is no such attempt. In a transaction."""
    run = await add_to_node(connection, review.company, review.node_id, review.attempt, review.usage)
    if run is None:
        return None
    call: int = await connection.fetchval(
        """insert into sidecars (run_id, node_id, attempt, call, document)
           select $1, $2, $3, coalesce(max(call), 0) + 1, $4 from sidecars
           where node_id = $2 and attempt = $3 and call < $5 returning call""",
        run, review.node_id, review.attempt, review.sidecar, LAST_OF_ITS_OWN,
    )  # fmt: skip
    return call


async def attempts(pool: Pool, company: str, node_id: UUID) -> Attempts | None:
    """Oldest first, with as much of their outputs as lies inline."""
    node = await pool.fetchrow(
        "select id, run_id, key, attempt from nodes where id = $1 and company_id = $2", node_id, company
    )
    if node is None:
        return None
    rows = await pool.fetch(
        f"""select a.number, a.status, a.model, a.requested, {TOOK}, a.duration_ms, a.error, a.started_at, a.ended_at,
                  (select guidance from guidances where node_id = a.node_id and attempt <= a.number
                   order by attempt desc limit 1) as guidance,
                  case when {IS_THE_NODES} then n.output else a.output end as output,
                  case when {IS_THE_NODES} then n.output_size else a.output_size end as output_size,
                  case when {IS_THE_NODES} then n.checksum else a.checksum end as checksum
           from attempts a join nodes n on n.id = a.node_id {PURCHASES_OF_IT}
           where a.node_id = $1 order by a.number""",
        node_id,
    )
    return Attempts(
        node_id=node_id, run_id=node["run_id"], key=node["key"], current=node["attempt"], items=[*map(_attempt, rows)]
    )


async def held(pool: Pool, q: ListHeld) -> tuple[list[HeldNode], int]:
    filters = f"""from nodes n join runs r on r.id = n.run_id
        where {HELD} and n.company_id = $1 and ($2::uuid is null or n.run_id = $2) and r.status <> 'canceled'"""
    order = ordering(q.order_by, HELD_ORDERS, HELD_SINCE)
    rows = await pool.fetch(
        f"""select n.run_id, r.title as run_title, r.task_id, r.project_id, n.id as node_id, n.key, n.title, n.status,
                  n.attempt, n.role, n.spec->>'agent_id' as agent_id, left(n.output, 2000) as output_preview, n.verdict,
                  {HELD_SINCE} as since {filters} order by {order}, n.id limit $3 offset $4""",
        q.company, q.run_id, q.limit, q.offset,
    )  # fmt: skip
    links = await _links(pool, {row["run_id"] for row in rows})
    items = [HeldNode(**row, descendants=waits_for(row["key"], links[row["run_id"]])) for row in rows]
    return items, await pool.fetchval(f"select count(*) {filters}", q.company, q.run_id)


async def lock_run_of(connection: Connection, company: str, run_id: UUID, node_id: UUID) -> str | None:
    """The node's key, with its run locked; None when either is gone."""
    found: str | None = await connection.fetchval(
        """select n.key from runs r join nodes n on n.run_id = r.id
           where r.id = $1 and r.company_id = $2 and n.id = $3 for update of r""",
        run_id, company, node_id,
    )  # fmt: skip
    return found


async def _links(pool: Pool, runs: set[UUID]) -> dict[UUID, list[Link]]:
    rows = await pool.fetch(
        "select run_id, key, deps, status from nodes where run_id = any($1) order by run_id, position", list(runs)
    )
    found: dict[UUID, list[Link]] = {run_id: [] for run_id in runs}
    for row in rows:
        found[row["run_id"]].append(Link(row["key"], row["deps"], NodeStatus(row["status"])))
    return found


def _attempt(row: asyncpg.Record) -> Attempt:
    kept: dict[str, Any] = {name: value for name, value in row.items() if name not in (*SPENT, "guidance")}
    guidance = Guidance.model_validate(row["guidance"]) if row["guidance"] else None
    return Attempt(**kept, usage=Spend.of(row).usage(), guidance=guidance, diff=None)
