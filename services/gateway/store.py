"""All SQL of the gateway: the timeline as its projector writes it and as watchers read it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from chassis.postgres import Connection, Pool, affected
from contracts.errors import Code, Rejection
from services.gateway.domain.course import TELLING
from services.gateway.domain.cursor import Cursor
from services.gateway.domain.facts import UNREADABLE, Fact, Story

#: Of the projector's connection: each of its joins is of a few stories with an index, however many there are by now.
PROJECTOR_SETTINGS = {
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}

LEADER = "select pg_try_advisory_lock(hashtext('gateway.timeline'))"

LOCK_STORIES = """
select t.owner, t.story, t.sequence from told_stories t
join unnest($1::text[], $2::text[]) as s (owner, story) using (owner, story)
order by owner, story for update of t
"""
NEW_STORIES = """
insert into told_stories as t (owner, story, sequence)
select owner, story, 0 from unnest($1::text[], $2::text[]) as s (owner, story) order by owner, story
on conflict (owner, story) do update set sequence = t.sequence
returning owner, story, sequence
"""
MOVE_STORIES = """
update told_stories t set sequence = s.sequence
from unnest($1::text[], $2::text[], $3::bigint[]) as s (owner, story, sequence)
where t.owner = s.owner and t.story = s.story
"""
FACT = """message_id, company_id, owner, story, sequence, level, run_id, node_id, task_id, request_id,
    message::text as message, at"""
PARKED_OF = f"""
select {FACT} from parked_facts p
where (p.owner, p.story) in (select * from unnest($1::text[], $2::text[])) order by owner, story, sequence
"""
PARK = """
insert into parked_facts (message_id, company_id, owner, story, sequence, level, run_id, node_id, task_id, request_id,
    message, at)
select message_id, company_id, owner, story, sequence, level, run_id, node_id, task_id, request_id, message::jsonb, at
from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::uuid[], $8::uuid[],
    $9::uuid[], $10::text[], $11::text[], $12::timestamptz[]) as f (message_id, company_id, owner, story, sequence,
    level, run_id, node_id, task_id, request_id, message, at)
on conflict do nothing
"""
UNPARK = """
delete from parked_facts p using unnest($1::text[], $2::text[], $3::bigint[]) as s (owner, story, sequence)
where p.owner = s.owner and p.story = s.story and p.sequence <= s.sequence
"""
ADVANCE_FEEDS = """
insert into feeds as f (company_id, position)
select company_id, facts from unnest($1::text[], $2::bigint[]) as n (company_id, facts) order by company_id
on conflict (company_id) do update set position = f.position + excluded.position
returning company_id, position
"""
TELL = """
insert into timeline (message_id, company_id, owner, story, sequence, level, run_id, node_id, task_id, request_id,
    message, at, position)
select message_id, company_id, owner, story, sequence, level, run_id, node_id, task_id, request_id, message::jsonb, at,
    position
from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::uuid[], $8::uuid[],
    $9::uuid[], $10::text[], $11::text[], $12::timestamptz[], $13::bigint[]) as f (message_id, company_id, owner,
    story, sequence, level, run_id, node_id, task_id, request_id, message, at, position)
"""
UNREAD = f"""
update timeline set message = $5::text::jsonb, run_id = $6, node_id = $7, task_id = $8
where company_id = $1 and at = $2 and owner = $3 and story = $4 and sequence = $9 and message ? '{UNREADABLE}'
"""
GAPS = """
with waiting as (
    select owner, story, min(sequence) as first_parked from parked_facts group by owner, story
    having coalesce(max(asked_at), min(parked_at)) < clock_timestamp() - make_interval(secs => $1)
), asked as (
    update parked_facts p set asked_at = clock_timestamp() from waiting w where p.owner = w.owner and p.story = w.story
)
select w.owner, w.story, t.sequence + 1 as first, w.first_parked - 1 as last
from waiting w join told_stories t using (owner, story) order by w.owner, w.story limit 100
"""
TOLD = """company_id, position, message_id, level, run_id, node_id, task_id, request_id, message::text as message,
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
class Gap:
    """Facts `first..last` of a story are missing, and later ones wait for them."""

    owner: str
    story: str
    first: int
    last: int

    @property
    def missing(self) -> dict[str, Any]:
        return {"story": self.story, "first": self.first, "last": self.last}


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


def _columns(facts: Sequence[Fact]) -> Iterator[Sequence[Any]]:
    return zip(*facts, strict=True)


def _sequences(last: Mapping[Story, int]) -> tuple[list[str], list[str], list[int]]:
    return [o for o, _ in last], [s for _, s in last], list(last.values())


class Timeline:
    """The projector's side. Every method runs in the caller's transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def lead(self) -> bool:
        """Become the one projector; the lock goes with the connection."""
        return bool(await self._connection.fetchval(LEADER))

    async def lock(self, stories: Collection[Story]) -> dict[Story, int]:
        """How far each story has been told; nobody else moves them until the commit."""
        rows = await self._connection.fetch(LOCK_STORIES, [o for o, _ in stories], [s for _, s in stories])
        found = {(row["owner"], row["story"]): row["sequence"] for row in rows}
        if new := [story for story in stories if story not in found]:
            rows = await self._connection.fetch(NEW_STORIES, [o for o, _ in new], [s for _, s in new])
            found |= {(row["owner"], row["story"]): row["sequence"] for row in rows}
        return found

    async def parked_of(self, stories: Collection[Story]) -> list[Fact]:
        rows = await self._connection.fetch(PARKED_OF, [o for o, _ in stories], [s for _, s in stories])
        return [Fact(**row) for row in rows]

    async def park(self, facts: Sequence[Fact]) -> None:
        if facts:
            await self._connection.execute(PARK, *_columns(facts))

    async def move(self, last: Mapping[Story, int]) -> None:
        """Stories have been told up to a sequence."""
        if last:
            await self._connection.execute(MOVE_STORIES, *_sequences(last))

    async def unpark(self, last: Mapping[Story, int]) -> None:
        """What was parked below these sequences is no longer needed."""
        if last:
            await self._connection.execute(UNPARK, *_sequences(last))

    async def tell(self, facts: Sequence[Fact]) -> None:
        """Append to the feeds of their companies, in the given order."""
        if not facts:
            return
        counts: dict[str, int] = {}
        for fact in facts:
            counts[fact.company_id] = counts.get(fact.company_id, 0) + 1
        rows = await self._connection.fetch(ADVANCE_FEEDS, list(counts), list(counts.values()))
        following = {row["company_id"]: row["position"] - counts[row["company_id"]] for row in rows}
        positions = []
        for fact in facts:
            following[fact.company_id] += 1
            positions.append(following[fact.company_id])
        await self._connection.execute(TELL, *_columns(facts), positions)

    async def fill(self, fact: Fact) -> bool:
        """Put a fact in the place of its tombstone, if it has one."""
        ids = fact.run_id, fact.node_id, fact.task_id
        told = fact.company_id, fact.at, fact.owner, fact.story, fact.message, *ids, fact.sequence
        return affected(await self._connection.execute(UNREAD, *told)) == 1

    async def gaps(self, older_than: float) -> list[Gap]:
        """Gaps whose owner should be asked now; not named again for as long."""
        return [Gap(**row) for row in await self._connection.fetch(GAPS, older_than)]


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
        "position(lower({}) in lower(message::text)) > 0": wanted.q,
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
