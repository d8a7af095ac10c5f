"""What was said of nodes, as far as the feedback service can be asked: nobody waits for it, and nothing fails with it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

import structlog

from contracts.errors import Rejection, RetryLater
from contracts.feedback import Feedback, ListFeedbacks
from contracts.review import Attempt, Attempts, Critique
from contracts.verdict import Source
from services.gateway.asking import Desk
from services.gateway.review_schemas import AttemptOut, AttemptsOut

log = structlog.get_logger(__name__)

FEEDBACKS = "feedbacks"  # as it is named in `degraded`
PATIENCE = 2.0
AT_ONCE = 200
OF_EACH = 10  # the newest of a node, where many nodes are shown; GET /feedbacks has them all

Said = Mapping[UUID, list[Feedback]]


async def said_of(desk: Desk, *, per_node: int | None = OF_EACH, **about: Any) -> Said | None:
    """Feedbacks by node, the oldest first. None when they cannot be had now: whoever is not there has none."""
    try:
        async with asyncio.timeout(PATIENCE):
            return _by_node(await _newest(desk, {"per_node": per_node, **about}))
    except (Rejection, RetryLater, TimeoutError) as error:
        log.warning("feedbacks.missing", error=repr(error))
        return None


async def said_of_one(desk: Desk, node_id: UUID) -> Said | None:
    return await said_of(desk, node_id=node_id, per_node=AT_ONCE)


async def verdicts_of(desk: Desk, node_id: UUID) -> Said | None:
    """What is in force on each of a node's attempts."""
    return await said_of(desk, node_id=node_id, per_node=None, in_force=True)


async def critique_of(desk: Desk, node_id: UUID) -> Critique | None:
    """What a person has said of the node's latest attempt: who runs it again at once would be faster than their verdict."""
    verdicts = of_node(await verdicts_of(desk, node_id), node_id)
    latest = max(verdicts or [], key=lambda each: each.attempt, default=None)
    if latest is None or latest.source is not Source.HUMAN or not latest.comment:
        return None
    return Critique(of_attempt=latest.attempt, text=latest.comment)


async def nothing_said() -> Said:
    """For who wants no nodes."""
    return {}


async def _newest(desk: Desk, about: Mapping[str, Any]) -> list[Feedback]:
    def page(offset: int) -> ListFeedbacks:
        return ListFeedbacks(limit=AT_ONCE, offset=offset, order_by="-created_at", **about)

    first = await desk.ask(page(0))
    more = range(AT_ONCE, first.total, AT_ONCE)
    rest = await asyncio.gather(*(desk.ask(page(offset)) for offset in more))
    return [feedback for found in (first, *rest) for feedback in found.items]


def _by_node(newest: Iterable[Feedback]) -> Said:
    """Each once: what came in while pages were turned moved others to the next one."""
    said: dict[UUID, dict[UUID, Feedback]] = {}
    for feedback in newest:
        said.setdefault(feedback.node_id, {})[feedback.id] = feedback
    return {node_id: list(found.values())[::-1] for node_id, found in said.items()}


def of_node(said: Said | None, node_id: UUID) -> list[Feedback] | None:
    return None if said is None else said.get(node_id, [])


def degraded(said: Said | None) -> list[str]:
    return [FEEDBACKS] if said is None else []


def attempts_out(found: Attempts, said: Said | None) -> AttemptsOut:
    in_force = {each.attempt: each for each in of_node(said, found.node_id) or [] if each.in_force}
    items = [_judged(attempt, in_force.get(attempt.number)) for attempt in found.items]
    return AttemptsOut(**dict(found) | {"items": items}, degraded=degraded(said))


def _judged(attempt: Attempt, verdict: Feedback | None) -> AttemptOut:
    if verdict is None:
        return AttemptOut(**dict(attempt))
    same = ("score", "decision", "source", "reviewer", "comment")
    return AttemptOut(**dict(attempt), feedback_id=verdict.id, **{name: getattr(verdict, name) for name in same})
