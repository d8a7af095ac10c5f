"""Feedback's composition: settings, the reviewing model, handlers, subscriptions."""

from __future__ import annotations

from functools import partial

from chassis.llm.models import Models
from chassis.llm.remote_purse import RemotePurses
from chassis.llm.settings import LlmSettings
from chassis.llm.warming import warm_up
from chassis.retention import DAY, OldRows
from chassis.service import Chassis
from services.feedback.adapters.reviewer import Reviewer
from services.feedback.domain.verdicts import Terms
from services.feedback.handlers import reviewing
from services.feedback.handlers.giving import Giving
from services.feedback.handlers.policies import Policies
from services.feedback.handlers.reports import Reports
from services.feedback.handlers.reviewing import Reviewing
from services.feedback.settings import FeedbackSettings
from services.feedback.subscribers import subscribe

TO_WRITE_DOWN = 0.5  # seconds, after the model's answer


async def build(chassis: Chassis) -> None:
    settings: FeedbackSettings = chassis.settings
    uow, pool, bus = chassis.uow, chassis.pool, chassis.bus
    llm = LlmSettings.load()
    models, purses = Models(llm), RemotePurses(bus, uow, chassis.jobs)
    server = Terms(settings.critical_threshold, settings.auto_revise)
    reviewer = Reviewer(models, purses, llm, settings.reviewer, settings.review_tokens)
    work = Reviewing(uow, pool, chassis.jobs, bus, chassis.blobs, reviewer, server, settings.review_timeout_ms / 1000)
    subscribe(bus, Giving(uow, pool, bus, server), Policies(uow, pool), Reports(pool), work)
    chassis.jobs.register(
        reviewing.KIND,
        work.work,
        concurrency=settings.concurrency,
        max_attempts=reviewing.ATTEMPTS,
        lease=settings.lease,
    )
    keep = settings.retention_feedbacks_days * DAY
    chassis.retention.add(  # feedbacks go with their attempts
        OldRows("attempts", ("node_id", "attempt"), "created_at", keep),
        OldRows("model_calls", ("job_id",), "created_at", keep),
    )
    chassis.background("models", partial(warm_up, models))
    chassis.on_drain(partial(chassis.jobs.drain, patience(settings)))
    chassis.on_drain(purses.drain)
    chassis.on_drain(models.aclose)


def patience(settings: FeedbackSettings) -> float:
    """Seconds in which reviews under way may end when the service shall stop: as long as their model may take."""
    return min(settings.review_timeout_ms / 1000 + TO_WRITE_DOWN, settings.drain_timeout * 0.8)
