"""Reviews that end in what nobody foresaw: tried again a few times with their model, then by code alone, then given up."""

from __future__ import annotations

import structlog

from chassis import telemetry
from chassis.job_table import Job
from chassis.postgres import Pool
from contracts.errors import Code, Rejection, RetryLater
from services.feedback.adapters.reviewer import Heard, surprise
from services.feedback.store.calls import CallStore, SoFar

log = structlog.get_logger(__name__)

SURPRISES = 5  # with a model, and as many without
PAUSE = 0.5  # seconds; doubled with each
LONGEST_PAUSE = 10.0


async def after(pool: Pool, job: Job, error: Exception) -> RetryLater | Rejection:
    """What the job is to end with. They are counted where they are not mixed up with waiting for others."""
    log.error("review.surprised", job=str(job.id), ref=job.ref, exc_info=error)
    telemetry.report(error, job=job.kind)
    what = surprise(error)
    count = await CallStore(pool).surprised(job.id, job.company, what)
    if count < 2 * SURPRISES:
        return RetryLater(min(LONGEST_PAUSE, PAUSE * 2.0 ** (count % SURPRISES)), what)
    return Rejection(Code.INTERNAL, f"the review failed {count} times, without a model too; the last time: {what}")


def heard_before(so_far: SoFar) -> Heard | None:
    """None when a model may be asked. What may have been the cause of too many surprises is left out."""
    kept = so_far.answer
    if so_far.surprises < SURPRISES:
        return Heard.model_validate(kept) if kept else None
    taken = {name: value for name, value in (kept or {}).items() if name in ("reviewer", "usage", "sidecar")}
    reason = f"the review failed {so_far.surprises} times, the last time with: {so_far.surprise}"
    return Heard.model_validate(taken).without_opinion(reason)
