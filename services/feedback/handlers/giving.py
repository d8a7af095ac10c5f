"""What people say of results, and what was said."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from chassis.bus import Bus
from chassis.context import Context
from chassis.postgres import Pool
from chassis.unit_of_work import UnitOfWork
from contracts.errors import Code, Rejection
from contracts.executor import NodeStatus
from contracts.feedback import Feedback, GetFeedback, GiveFeedback, ListFeedbacks
from contracts.page import Page
from contracts.review import GetReviewCase, ReviewCase
from contracts.verdict import Decision, Source
from services.feedback.domain.verdicts import Standing, Terms, was_known
from services.feedback.handlers.effects import Word, put_on_record
from services.feedback.store.feedbacks import FeedbackStore

UNDONE = frozenset({NodeStatus.QUEUED, NodeStatus.RUNNING, NodeStatus.PAUSED})


class Giving:
    def __init__(self, uow: UnitOfWork, pool: Pool, bus: Bus, server: Terms) -> None:
        self._uow = uow
        self._pool = pool
        self._bus = bus
        self._server = server

    async def give(self, request: GiveFeedback, context: Context) -> Feedback:
        """Raises Rejection(not_found), (illegal_state) or (verdict_taken)."""
        case = await self._bus.ask(_case_of(request), context)
        if request.score is not None and not _has_a_result(case):
            state = {"state": case.status, "legal": ["once it has run"]}
            raise Rejection(
                Code.ILLEGAL_STATE, f"{case.spec.key} has no result to judge yet: it is {case.status}", **state
            )
        async with self._uow.order(request, context) as tx:
            store = FeedbackStore(tx.conn)
            standing = await store.hold(request.company, case)
            if request.source is Source.HUMAN and request.score is not None:
                await _refuse_what_was_not_seen(store, request, case, standing)
            id = await put_on_record(tx, request.company, case, standing, _word(request), self._server)
            made = await store.feedback(request.company, id)
            assert made is not None, "it was added above"
            return tx.answer(made)

    async def feedback(self, request: GetFeedback, _: Context) -> Feedback:
        found = await FeedbackStore(self._pool).feedback(request.company, request.feedback_id)
        if found is None:
            raise Rejection(Code.NOT_FOUND, f"there is no feedback {request.feedback_id}")
        return found

    async def page(self, request: ListFeedbacks, _: Context) -> Page[Feedback]:
        return await FeedbackStore(self._pool).page(request)


def _has_a_result(case: ReviewCase) -> bool:
    """A verdict on what is still being made would be void, and keep the review of the result from counting."""
    if not case.current or case.status not in UNDONE:
        return True
    return case.status is NodeStatus.PAUSED and case.checksum is not None


def _case_of(request: GiveFeedback) -> GetReviewCase:
    place = {"node_id": request.node_id, "run_id": request.run_id, "attempt": request.attempt}
    return GetReviewCase(company=request.company, **place)


async def _refuse_what_was_not_seen(
    store: FeedbackStore, request: GiveFeedback, case: ReviewCase, standing: Standing
) -> None:
    """Of two who decide at once one wins, and the other decides again, knowing what the first one said."""
    if was_known(standing.in_force, request.seen, request.asked_at):
        return
    if standing.in_force is None:
        message = f"{case.spec.key} has come to attempt {case.attempt} since, which nobody has judged; look at it first"
        raise Rejection(Code.VERDICT_TAKEN, message, current=None)
    current = await _shown(store, request.company, standing.in_force.feedback_id)
    message = "another verdict is in force by now: look at it, and decide again with its id as `seen`"
    raise Rejection(Code.VERDICT_TAKEN, message, current=current)


async def _shown(store: FeedbackStore, company: str, id: UUID) -> dict[str, Any] | None:
    found = await store.feedback(company, id)
    return found and found.model_dump(mode="json")  # type: ignore[return-value]


def _word(request: GiveFeedback) -> Word:
    failed = request.evaluation.get("failed_criteria")
    wants = str(request.evaluation.get("decision"))
    return Word(
        source=request.source,
        score=request.score,
        reviewer=request.reviewer,
        comment=request.comment,
        wants=Decision(wants) if wants in set(Decision) else None,
        failed=[str(name) for name in failed] if isinstance(failed, list) else [],
        metadata=request.metadata,
        evaluation=request.evaluation,
    )
