"""The SQL of reports: a run's verdicts, and quality over time."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from chassis.postgres import Pool
from contracts.feedback import GetQuality, NodeQuality, QualityRow

#: what people send as their evaluation may have any shape
FAILED_CRITERIA = """
case when jsonb_typeof(f.evaluation->'failed_criteria') = 'array'
     then array(select x from jsonb_array_elements_text(f.evaluation->'failed_criteria') x where x is not null limit 100)
     else '{}' end
"""
#: of reviews only: what people send is theirs
REVIEWER_DECISION = "case when f.source = 'auto' then f.evaluation->>'reviewer_decision' end"
#: the latest attempt of each node that somebody judged, and the verdict in force on it
NODES = f"""
with latest as (
    select distinct on (node_id) node_id, node_key, attempt, in_force from attempts
    where company_id = $1 and run_id = $2 order by node_id, attempt desc
), reviews as (
    select f.node_id, count(*)::int as reviews, count(*) filter (where f.source = 'human')::int as of_people,
           min(f.created_at) as first
    from feedbacks f join latest using (node_id) where f.score is not null group by f.node_id
)
select l.node_id, l.node_key as key, l.attempt, f.score, f.decision, {REVIEWER_DECISION} as reviewer_decision, f.source,
       f.reviewer,
       coalesce(f.critical, false) as critical, {FAILED_CRITERIA} as failed_criteria, f.comment,
       coalesce(r.reviews, 0) as reviews, coalesce(r.of_people, 0) as of_people
from latest l left join feedbacks f on f.id = l.in_force left join reviews r on r.node_id = l.node_id
order by r.first, l.node_key
"""
NAMES: Mapping[str, str] = {"agent": "a.agent_id", "role": "a.role", "model": "a.author_model"}
BUCKETS: Mapping[str | None, str] = {
    None: "null::timestamptz",
    "day": "date_trunc('day', f.created_at, 'UTC')",
    "week": "date_trunc('week', f.created_at, 'UTC')",
}
#: over the verdicts in force: one for each attempt
QUALITY = """
select %s as name, %s as bucket, count(*)::int as reviews, round(avg(f.score), 2)::float8 as average_score,
       round(avg((f.decision = 'accept')::int) filter (where f.attempt = 1), 4)::float8 as accepted_first_time,
       (count(*) filter (where f.critical))::int as critical,
       (count(*) filter (where f.source = 'human'))::int as human_reviews
from feedbacks f join attempts a on a.in_force = f.id and a.node_id = f.node_id and a.attempt = f.attempt
where f.company_id = $1 and ($2::text is null or a.project_id = $2)
  and ($3::timestamptz is null or f.created_at >= $3) and ($4::timestamptz is null or f.created_at < $4)
group by 1, 2 order by 2 nulls first, 1 nulls last limit 10000
"""


class ReportStore:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def nodes(self, company: str, run_id: UUID) -> tuple[list[NodeQuality], int]:
        """And how many of the reviews are those of people."""
        rows = await self._pool.fetch(NODES, company, run_id)
        return [NodeQuality(**row) for row in rows], sum(row["of_people"] for row in rows)

    async def quality(self, ask: GetQuality) -> list[QualityRow]:
        statement = QUALITY % (NAMES[ask.by], BUCKETS[ask.bucket])
        rows = await self._pool.fetch(statement, ask.company, ask.project, ask.ts_from, ask.ts_to)
        return [QualityRow(**row) for row in rows]
