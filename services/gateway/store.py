"""The SQL of the timeline as watchers read it; `telling/store.py` has how it is written."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from chassis.postgres import Pool
from contracts.errors import Code, Rejection
from services.gateway.domain.course import TELLING
from services.gateway.domain.cursor import Cursor

TOLD = """company_id, position, message_id, level, run_id, node_id, task_id, request_id, message,
    at"""
HEAD = "select epoch, position from feeds where company_id = $1"
FLOOR = "select position from floors where company_id = $1"
NEWS = f"""
select {TOLD} from timeline
where company_id = $1 and run_id = any($2::uuid[]) and position > $3 and position <= $4
order by position limit $5
"""
LATEST = f"""
select * from (select {TOLD} from timeline where company_id = $1 and run_id = $2 order by position desc limit $3) as f
order by position
"""
LATEST_OF_NODES = f"""
select {TOLD} from (
    select *, row_number() over (partition by node_id order by position desc) as nth
    from timeline where company_id = $1 and run_id = $2 and node_id = any($3::uuid[])
) as f where nth <= $4 order by position
"""
COUNTS_OF_RUN = "select level, count(*) as facts from timeline where company_id = $1 and run_id = $2 group by level"
LAST_TELLING = f"""
select * from (
    select {TOLD} from timeline where company_id = $1 and run_id = $2 and position <= $3 and level = any($4)
    order by position desc limit 10
) as f order by position
"""
KNOWS = "select exists (select from timeline where company_id = $1 and run_id = $2)"
KNOWS_TASK = "select exists (select from timeline where company_id = $1 and task_id = $2)"
COUNT_OF_RUN = "select count(*) from timeline where company_id = $1 and run_id = $2"
#: an array and not a subquery beside `or`: so both indexes can be used
OF_A_TASK = """(task_id = {0} or run_id = any (array(
    select distinct run_id from timeline where company_id = $1 and task_id = {0} and run_id is not null)))"""
ORDERS: Mapping[str, str] = {"timestamp": "at", "level": "level", "cursor": "position"}


@dataclass(frozen=True, slots=True)
class Told:
    """A fact in its place in a company's feed."""

    company_id: str
    position: int
    message_id: UUID
    level: str
    run_id: UUID | None
    node_id: UUID | None
    task_id: UUID | None
    request_id: str
    message: str
    at: datetime


@dataclass(frozen=True, slots=True)
class EventFilter:
    """`task_id` stands for the task's own facts and all those of its runs."""

    run_id: UUID | None = None
    task_id: UUID | None = None
    node_id: UUID | None = None
    level: str | None = None
    q: str | None = None
    ts_from: datetime | None = None
    ts_to: datetime | None = None
    request_id: str | None = None


class Feed:
    """The watchers' side. Holds a connection no longer than a statement."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def head(self, company: str) -> Cursor:
        row = await self._pool.fetchrow(HEAD, company)
        return Cursor(row["epoch"], row["position"]) if row else Cursor("", 0)

    async def floor(self, company: str) -> int:
        """The facts up to this position are no longer kept."""
        return int(await self._pool.fetchval(FLOOR, company) or 0)

    async def news(self, company: str, runs: Collection[UUID], *, after: int, upto: int, limit: int) -> list[Told]:
        rows = await self._pool.fetch(NEWS, company, list(runs), after, upto, limit)
        return [Told(**row) for row in rows]

    async def latest(self, company: str, run_id: UUID, count: int) -> list[Told]:
        """The newest facts of a run, oldest first."""
        return [Told(**row) for row in await self._pool.fetch(LATEST, company, run_id, count)] if count else []

    async def latest_of_nodes(self, company: str, run_id: UUID, nodes: Collection[UUID], *, each: int) -> list[Told]:
        """The newest facts of each node, oldest first."""
        rows = await self._pool.fetch(LATEST_OF_NODES, company, run_id, list(nodes), each) if nodes else []
        return [Told(**row) for row in rows]

    async def counts_of_run(self, company: str, run_id: UUID) -> dict[str, int]:
        """How many facts of each level a run has told."""
        return {row["level"]: row["facts"] for row in await self._pool.fetch(COUNTS_OF_RUN, company, run_id)}

    async def telling(self, company: str, run_id: UUID, *, upto: int) -> list[Told]:
        """The latest of the facts that say whether a run goes on, oldest first."""
        return [Told(**row) for row in await self._pool.fetch(LAST_TELLING, company, run_id, upto, list(TELLING))]

    async def knows(self, company: str, run_id: UUID) -> bool:
        return bool(await self._pool.fetchval(KNOWS, company, run_id))

    async def knows_task(self, company: str, task_id: UUID) -> bool:
        return bool(await self._pool.fetchval(KNOWS_TASK, company, task_id))

    async def count_of_run(self, company: str, run_id: UUID) -> int:
        return int(await self._pool.fetchval(COUNT_OF_RUN, company, run_id))

    async def page(
        self, company: str, wanted: EventFilter, *, limit: int, offset: int, order_by: str | None
    ) -> tuple[list[Told], int]:
        """Events in the feed's order unless another is asked for. Raises Rejection(invalid) on an unknown field."""
        where, values = _where(company, wanted)
        order = _order(order_by)
        total = await self._pool.fetchval(f"select count(*) from timeline where {where}", *values)
        rows = await self._pool.fetch(
            f"select {TOLD} from timeline where {where} order by {order} limit {limit:d} offset {offset:d}", *values
        )
        return [Told(**row) for row in rows], int(total)


def _where(company: str, wanted: EventFilter) -> tuple[str, list[Any]]:
    tests = {
        "run_id = {}": wanted.run_id,
        OF_A_TASK: wanted.task_id,
        "node_id = {}": wanted.node_id,
        "level = {}": wanted.level,
        "position(lower({}) in lower(message)) > 0": wanted.q,
        "at >= {}": wanted.ts_from,
        "at <= {}": wanted.ts_to,
        "request_id = {}": wanted.request_id,
    }
    clauses, values = ["company_id = $1"], [company]
    for test, value in tests.items():
        if value is not None:
            values.append(value)  # type: ignore[arg-type]
            clauses.append(test.format(f"${len(values)}"))
    return " and ".join(clauses), values


def _order(order_by: str | None) -> str:
    field = (order_by or "cursor").removeprefix("-")
    if field not in ORDERS:
        allowed = ", ".join(ORDERS)
        error = {"type": "order_by", "loc": ["query", "order_by"], "msg": f"{field!r} is not one of {allowed}"}
        raise Rejection(Code.INVALID, f"order_by must be one of {allowed}", errors=[error])
    direction = "desc" if (order_by or "").startswith("-") else "asc"
    return f"{ORDERS[field]} {direction} nulls last, position {direction}"
