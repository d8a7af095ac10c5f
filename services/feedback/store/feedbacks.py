"""The SQL of feedbacks, and of the attempts they are about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg

from chassis.postgres import Connection, Pool
from contracts.feedback import Feedback, ListFeedbacks
from contracts.page import Page
from contracts.review import ReviewCase
from contracts.verdict import Decision, Source
from services.feedback.domain.verdicts import InForce, Standing
from services.feedback.store.order import order

FEEDBACK = """
select f.id, f.company_id, a.project_id, a.task_id, a.run_id, f.node_id, a.node_key, f.attempt, f.source, f.reviewer,
       f.score, f.threshold, f.decision, f.critical, a.in_force is not distinct from f.id as in_force, f.comment,
       f.metadata, f.evaluation, f.request_id, f.created_at
"""
FROM = "from feedbacks f join attempts a on a.node_id = f.node_id and a.attempt = f.attempt"
MATCHES = """
f.company_id = $1 and ($2::uuid is null or a.run_id = $2) and ($3::uuid[] is null or f.node_id = any($3))
and ($4::text is null or f.source = $4) and ($5::bool is null or f.critical = $5)
and ($6::bool is null or (a.in_force is not distinct from f.id) = $6)
"""
#: of each node, so many
NEWEST = f"""
select id from (
    select f.id, row_number() over (partition by f.node_id order by f.created_at desc, f.id) as place
    {FROM} where {MATCHES}
) as newest where place <= $7
"""
ORDER: Mapping[str, str] = {
    "created_at": "f.created_at",
    "score": "f.score",
    "attempt": "f.attempt",
    "source": "f.source",
}

#: Holds the attempt: whoever else judges it waits until this verdict is known, or given up.
HOLD = """
insert into attempts as a
    (node_id, attempt, company_id, project_id, task_id, run_id, node_key, role, agent_id, author_model)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
on conflict (node_id, attempt) do update set author_model = coalesce(a.author_model, excluded.author_model)
"""
#: A statement of its own: the one that waited for the attempt does not see what was committed meanwhile.
STANDING = """
select a.version, f.id, f.source, f.created_at,
       exists (select from feedbacks r where r.node_id = $1 and r.attempt = $2 and r.job_id is not null) as reviewed
from attempts a left join feedbacks f on f.id = a.in_force where a.node_id = $1 and a.attempt = $2
"""


@dataclass(frozen=True, slots=True)
class NewFeedback:
    """What there is to be kept beside what the case says. `job_id` is that of the review, if it is one."""

    id: UUID
    source: Source
    reviewer: str | None
    score: int | None
    threshold: int | None
    decision: Decision | None
    critical: bool
    comment: str | None
    metadata: dict[str, Any]
    evaluation: dict[str, Any]
    request_id: str
    job_id: UUID | None = None


class FeedbackStore:
    """Statements on one connection, or on the pool for reads that need no transaction."""

    def __init__(self, db: Connection | Pool) -> None:
        self._db = db

    async def hold(self, company: str, case: ReviewCase) -> Standing:
        await self._db.execute(
            HOLD,
            *(case.node_id, case.attempt, company, case.project_id, case.task_id, case.run_id, case.spec.key),
            *(case.spec.role, case.spec.agent_id, case.author),
        )
        row = await self._db.fetchrow(STANDING, case.node_id, case.attempt)
        assert row is not None, "it is held"
        in_force = InForce(row["id"], Source(row["source"]), row["created_at"]) if row["id"] else None
        return Standing(row["version"], in_force, case.revisions, row["reviewed"])

    async def add(self, company: str, case: ReviewCase, new: NewFeedback) -> None:
        await self._db.execute(
            """
            insert into feedbacks (id, company_id, node_id, attempt, source, reviewer, score, threshold, decision, critical,
                                   comment, metadata, evaluation, request_id, job_id)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
            """,
            *(new.id, company, case.node_id, case.attempt, new.source, new.reviewer, new.score, new.threshold),
            *(new.decision, new.critical, new.comment, new.metadata, new.evaluation, new.request_id, new.job_id),
        )

    async def enforce(self, case: ReviewCase, feedback_id: UUID) -> int:
        """The number of the verdict among those on its attempt."""
        version: int = await self._db.fetchval(
            """
            update attempts set version = version + 1, in_force = $3
            where node_id = $1 and attempt = $2 returning version
            """,
            *(case.node_id, case.attempt, feedback_id),
        )
        return version

    async def was_reviewed(self, node_id: UUID, attempt: int) -> bool:
        found = "select exists (select from feedbacks where node_id = $1 and attempt = $2 and job_id is not null)"
        return bool(await self._db.fetchval(found, node_id, attempt))

    async def feedback(self, company: str, id: UUID) -> Feedback | None:
        row = await self._db.fetchrow(f"{FEEDBACK} {FROM} where f.company_id = $1 and f.id = $2", company, id)
        return None if row is None else _feedback(row)

    async def page(self, ask: ListFeedbacks) -> Page[Feedback]:
        nodes = ask.node_ids if ask.node_id is None else [n for n in ask.node_ids or [ask.node_id] if n == ask.node_id]
        given: tuple[Any, ...] = (ask.company, ask.run_id, nodes, ask.source, ask.critical, ask.in_force)
        matching = f"{FROM} where {MATCHES}"
        if ask.per_node is not None:
            given, matching = (*given, ask.per_node), f"{FROM} where f.id in ({NEWEST})"
        bounds = f"limit ${len(given) + 1} offset ${len(given) + 2}"
        ordered = order(ask.order_by, ORDER, "-created_at", "f.id")
        rows = await self._db.fetch(f"{FEEDBACK} {matching} order by {ordered} {bounds}", *given, ask.limit, ask.offset)
        total = await self._db.fetchval(f"select count(*) {matching}", *given)
        return Page[Feedback](items=[_feedback(row) for row in rows], total=total)


def _feedback(row: asyncpg.Record) -> Feedback:
    return Feedback(**row)
