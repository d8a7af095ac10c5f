"""Feedback: what people and reviews say of results. A score is a verdict."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Response

from contracts.feedback import Feedback, GetFeedback, GiveFeedback, ListFeedbacks
from contracts.verdict import Source
from services.gateway.deps import NEEDS_REQUEST_ID, CommandIdDep, DeskDep, NeedsRequestId, ReceivedAtDep
from services.gateway.domain.places import place
from services.gateway.known import refuse_unknown_company
from services.gateway.paging import Paging, paged
from services.gateway.problems import describe
from services.gateway.review_schemas import FeedbackIn, FeedbackPage

router = APIRouter(prefix="/feedbacks", tags=["feedback"])
PageDep = Annotated[Paging, Depends(paged("created_at"))]


@router.post(
    "",
    status_code=201,
    responses=describe(404, 409),
    dependencies=[NeedsRequestId],
    openapi_extra=NEEDS_REQUEST_ID,
)
async def give_feedback(
    desk: DeskDep, body: FeedbackIn, command_id: CommandIdDep, asked_at: ReceivedAtDep, response: Response
) -> Feedback:
    """A person's score releases a node that is held, or holds one that is not: it outranks the automatic one.

    409 `verdict_taken` when somebody else has judged the attempt meanwhile; `details.current` is their feedback.
    """
    given = await desk.ask(GiveFeedback(command_id=command_id, asked_at=asked_at, **dict(body)))
    response.headers["Location"] = place(desk.company, f"/feedbacks/{given.id}")
    return given


@router.get("", responses=describe(404))
async def list_feedbacks(
    desk: DeskDep,
    page: PageDep,
    run_id: UUID | None = None,
    node_id: UUID | None = None,
    source: Source | None = None,
    critical: bool | None = None,
) -> FeedbackPage:
    found = await desk.ask(
        ListFeedbacks(run_id=run_id, node_id=node_id, source=source, critical=critical, **page.bounds)
    )
    if not found.total:
        await refuse_unknown_company(desk)
    return page.of(FeedbackPage, found.items, found.total)


@router.get("/{feedback_id}", responses=describe(404))
async def get_feedback(desk: DeskDep, feedback_id: UUID) -> Feedback:
    return await desk.ask(GetFeedback(feedback_id=feedback_id))
