"""The SQL of the timeline as its projector writes it: stories, parked facts, feeds."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chassis.postgres import Connection, affected
from services.gateway.domain.facts import TOMBSTONE, Fact, Story

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
    message, at"""
PARKED_OF = f"""
select {FACT} from parked_facts p
where (p.owner, p.story) in (select * from unnest($1::text[], $2::text[])) order by owner, story, sequence
"""
PARK = """
insert into parked_facts (message_id, company_id, owner, story, sequence, level, run_id, node_id, task_id, request_id,
    message, at)
select message_id, company_id, owner, story, sequence, level, run_id, node_id, task_id, request_id, message, at
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
#: of `timeline`, as told
TOLD = (*Fact._fields, "position")
UNREAD = f"""
update timeline set message = $5, run_id = $6, node_id = $7, task_id = $8
where company_id = $1 and at = $2 and owner = $3 and story = $4 and sequence = $9
    and starts_with(message, '{TOMBSTONE}')
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
        rows = []
        for fact in facts:
            following[fact.company_id] += 1
            rows.append((*fact, following[fact.company_id]))
        await self._connection.copy_records_to_table("timeline", records=rows, columns=TOLD)

    async def fill(self, fact: Fact) -> bool:
        """Put a fact in the place of its tombstone, if it has one."""
        ids = fact.run_id, fact.node_id, fact.task_id
        told = fact.company_id, fact.at, fact.owner, fact.story, fact.message, *ids, fact.sequence
        return affected(await self._connection.execute(UNREAD, *told)) == 1

    async def gaps(self, older_than: float) -> list[Gap]:
        """Gaps whose owner should be asked now; not named again for as long."""
        return [Gap(**row) for row in await self._connection.fetch(GAPS, older_than)]
