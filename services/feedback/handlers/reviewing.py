"""Reviewing: a result that is to be judged becomes a job; checks of code, then a model that is not the author."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any, TypeVar
from uuid import UUID, uuid5

import structlog
from prometheus_client import Counter, Histogram
from pydantic import BaseModel, Field

from chassis.blobs import Blobs
from chassis.bus import Bus
from chassis.job_table import Job, LostLease
from chassis.jobs import Jobs
from chassis.postgres import Pool, server_is_away
from chassis.unit_of_work import UnitOfWork
from contracts.artifacts import Delivered
from contracts.envelope import Envelope
from contracts.errors import Code, Rejection, RetryLater
from contracts.feedback import Evaluation
from contracts.message import Request
from contracts.review import BookReview, GetReviewCase, ReviewCase
from contracts.run_facts import NodeReviewing
from contracts.streams import FEEDBACK_RESULTS
from contracts.verdict import Source
from services.feedback.adapters.delivered import delivered
from services.feedback.adapters.reviewer import Heard, Reviewer, Text, surprise
from services.feedback.adapters.validator import Validator
from services.feedback.domain.checks import Checked, check
from services.feedback.domain.opinion import Assessment, assess
from services.feedback.domain.verdicts import Terms
from services.feedback.handlers import surprises
from services.feedback.handlers.effects import Word, put_on_record
from services.feedback.handlers.surprises import SURPRISES, heard_before
from services.feedback.store.calls import CallStore, SoFar
from services.feedback.store.feedbacks import FeedbackStore

log = structlog.get_logger(__name__)
A = TypeVar("A", bound=BaseModel)

KIND = "review"
ATTEMPTS = 100_000  # days of an executor that is away
LONGEST_PAUSE = 10.0  # seconds between attempts
A_FEW_PAGES = 32 * 1024  # characters
LARGEST = 4 * 2**20  # bytes of a result that are read; of a larger one the beginning
BY_CODE = "code checks"
EMPTY = "an empty answer needs no second opinion"

REVIEWS = Counter("feedback_reviews_total", "Reviews by outcome", ["outcome"])
SECONDS = Histogram(
    "feedback_review_seconds",
    "From the start of a review to its verdict",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 2.5, 5),
)


class ReviewOrder(BaseModel):
    """The payload of a review's job."""

    run_id: UUID
    node_id: UUID
    attempt: int
    warnings: list[str] = Field(default_factory=list)


class Reviewing:
    """`timeout` in seconds, of the model."""

    def __init__(
        self,
        uow: UnitOfWork,
        pool: Pool,
        jobs: Jobs,
        bus: Bus,
        blobs: Blobs,
        reviewer: Reviewer,
        server: Terms,
        timeout: float,
    ) -> None:
        self._uow = uow
        self._pool = pool
        self._jobs = jobs
        self._bus = bus
        self._blobs = blobs
        self._reviewer = reviewer
        self._server = server
        self._timeout = timeout
        self._validator = Validator()

    async def on_reviewing(self, fact: NodeReviewing, envelope: Envelope) -> None:
        """One review for each attempt: a fact that is told anew joins the job, or finds the review done."""
        order = ReviewOrder(run_id=fact.run_id, node_id=fact.node_id, attempt=fact.attempt, warnings=fact.warnings)
        async with self._uow.handling(envelope, FEEDBACK_RESULTS.durable) as tx:
            if not await FeedbackStore(tx.conn).was_reviewed(fact.node_id, fact.attempt):
                ref = f"{fact.node_id}:{fact.attempt}"
                await self._jobs.enqueue(tx, KIND, ref, order.model_dump(mode="json"), company=fact.company)

    async def work(self, job: Job) -> None:
        """What nobody foresaw is tried again, a few times with the model and a few times without."""
        try:
            await self._review(job)
        except (RetryLater, LostLease):
            raise
        except Exception as error:
            if server_is_away(error):
                raise
            raise await surprises.after(self._pool, job, error) from None

    async def _review(self, job: Job) -> None:
        began, order = time.perf_counter(), ReviewOrder.model_validate(job.payload)
        reviewed = FeedbackStore(self._pool).was_reviewed(order.node_id, order.attempt)
        left = CallStore(self._pool).so_far(job.id)
        case, is_done, so_far = await asyncio.gather(self._case(job, order), reviewed, left)
        if case is None or is_done:
            return await self._lapse(job, order, so_far)
        text, there = await asyncio.gather(self._text(case), delivered(self._bus, job.company, case, job.context))
        checked = await self._checked(text, case, order.warnings, there)
        heard = heard_before(so_far) or await self._heard(job, case, text, checked, began)
        if heard.usage is not None:
            await self._book(job, case.node_id, case.attempt, heard, so_far)
        await self._record(job, case, checked, heard, so_far)
        REVIEWS.labels("checked" if heard.opinion is None else "reviewed").inc()
        SECONDS.observe(time.perf_counter() - began)
        return None

    async def _case(self, job: Job, order: ReviewOrder) -> ReviewCase | None:
        """None when there is nothing to judge any more: the node has moved on, or is gone. Without a case nobody can judge:
        an executor that fails on it is asked as long as one that is away, until the node's deadline decides."""
        place = {"node_id": order.node_id, "run_id": order.run_id, "attempt": order.attempt}
        try:
            case = await self._ask(job, GetReviewCase(company=job.company, **place))
        except Rejection as refusal:
            if refusal.failure.code is Code.INTERNAL:
                raise again(job.attempt, RetryLater(1.0, str(refusal))) from None
            if refusal.failure.code is not Code.NOT_FOUND:
                raise
            return None
        return case if case.current else None

    async def _text(self, case: ReviewCase) -> Text:
        """All of it; of what is too large, or no longer in the store, the beginning."""
        ref, shown = case.output_ref, case.output or ""
        if ref is None:
            return Text(output=shown)
        beginning = Text(output=shown, left_out=max(1, ref.size - len(shown.encode())))
        if ref.size > LARGEST:
            return beginning
        try:
            return Text(output=(await self._blobs.get(ref)).decode("utf-8", "replace"))
        except Rejection as gone:
            log.warning("review.result_is_gone", node_id=str(case.node_id), key=ref.key, reason=str(gone))
            return beginning

    async def _checked(self, text: Text, case: ReviewCase, warnings: list[str], there: Delivered | None) -> Checked:
        """Many pages are read in a thread, and strange schemas in a process: others must not wait for them."""
        whole = text.left_out == 0
        format = await self._validator.judgement(text.output, case.spec.params) if whole else None
        looking = partial(check, text.output, case.spec, warnings, whole=whole, delivered=there, format=format)
        return looking() if len(text.output) <= A_FEW_PAGES else await asyncio.to_thread(looking)

    async def _heard(self, job: Job, case: ReviewCase, text: Text, checked: Checked, began: float) -> Heard:
        """An answer is written down before anything follows from it: nobody is called again when this worker dies."""
        if checked.is_empty:
            return Heard(unavailable=EMPTY)
        left = self._timeout - (time.perf_counter() - began)
        try:
            heard = await self._reviewer.review(job.company, case, text, job.context, job_id=job.id, timeout=left)
        except RetryLater as away:
            raise again(job.attempt, away) from None
        if heard.usage is None:
            return heard
        return Heard.model_validate(await self._kept(job, heard))

    async def _kept(self, job: Job, heard: Heard) -> dict[str, Any]:
        store = CallStore(self._pool)
        try:
            return await store.keep(job.id, job.company, heard.model_dump(mode="json"))
        except Exception as error:
            if server_is_away(error):
                raise
            log.exception("review.answer_not_kept", job=str(job.id))
            poorer = heard.without_opinion(f"what the model answered could not be kept: {surprise(error)}")
            return await store.keep(job.id, job.company, poorer.model_dump(mode="json"))

    async def _book(self, job: Job, node_id: UUID, attempt: int, heard: Heard, so_far: SoFar) -> None:
        """Under an id that follows from the job: however often it is said, it is booked once. A verdict does not wait for
        ever for books that cannot be kept."""
        assert heard.usage is not None, "there was a call"
        book = BookReview(
            company=job.company,
            command_id=uuid5(job.id, "the review's call"),
            node_id=node_id,
            attempt=attempt,
            usage=heard.usage,
            sidecar=heard.sidecar or {},
        )
        try:
            await self._ask(job, book)
        except Rejection as refusal:
            if refusal.failure.code is Code.IN_FLIGHT:
                raise RetryLater(0.5, str(refusal)) from None
            if refusal.failure.code is Code.NOT_FOUND:  # the run was deleted, and its books with it
                return
            if so_far.surprises < SURPRISES:
                raise
            log.error("review.not_booked", node_id=str(node_id), usage=heard.usage.model_dump(), reason=str(refusal))

    async def _record(self, job: Job, case: ReviewCase, checked: Checked, heard: Heard, so_far: SoFar) -> None:
        found = assess(checked, heard.opinion, heard.reviewer)
        async with self._uow.begin(job.context) as tx:
            await self._jobs.finish(tx, job, {"score": found.score})
            if heard.usage is not None or so_far.surprises:
                await CallStore(tx.conn).forget(job.id)
            standing = await FeedbackStore(tx.conn).hold(job.company, case)
            if standing.reviewed:  # by a job that ended while this one was made
                return
            word = _word(job, case, checked, heard, found)
            await put_on_record(tx, job.company, case, standing, word, self._server)

    async def _lapse(self, job: Job, order: ReviewOrder, so_far: SoFar) -> None:
        """Ends without a verdict. What was called before is paid for all the same."""
        if (heard := heard_before(so_far)) is not None and heard.usage is not None:
            await self._book(job, order.node_id, order.attempt, heard, so_far)
        async with self._uow.begin(job.context) as tx:
            await self._jobs.finish(tx, job, {"lapsed": True})
            await CallStore(tx.conn).forget(job.id)
        REVIEWS.labels("lapsed").inc()
        log.info("review.lapsed", run_id=str(order.run_id), node_id=str(order.node_id), attempt=order.attempt)

    async def _ask(self, job: Job, request: Request[A]) -> A:
        try:
            return await self._bus.ask(request, job.context)
        except RetryLater as away:
            raise again(job.attempt, away) from None


def again(attempt: int, away: RetryLater) -> RetryLater:
    """The same, with pauses that grow: an executor may be away for long."""
    return RetryLater(min(LONGEST_PAUSE, max(min(away.delay, 1.0), 0.1 * 2.0 ** min(attempt, 20))), str(away))


def _word(job: Job, case: ReviewCase, checked: Checked, heard: Heard, found: Assessment) -> Word:
    evaluation = Evaluation(
        criteria=found.criteria,
        failed_criteria=found.failed,
        reviewer_model=heard.reviewer,
        reviewer_decision=found.decision,
        author_model=case.author,
        review_unavailable=heard.unavailable,
        not_checked=list(checked.not_checked),
        simulated=heard.simulated,
        usage=heard.usage,
        duration_ms=heard.duration_ms,
    )
    return Word(
        source=Source.AUTO,
        score=found.score,
        reviewer=heard.reviewer if heard.opinion else BY_CODE,
        comment=found.comment,
        critique=found.critique,
        wants=found.decision,
        unusable=found.unusable,
        unavailable=heard.unavailable,
        failed=found.failed,
        evaluation=evaluation.model_dump(mode="json"),
        usage=heard.usage,
        job_id=job.id,
    )
