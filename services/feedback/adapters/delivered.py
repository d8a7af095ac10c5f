"""What else an attempt has delivered: the publisher knows, and is asked when something is owed."""

from __future__ import annotations

import structlog

from chassis.bus import Bus
from chassis.context import Context
from contracts.artifacts import Delivered, GetDelivered
from contracts.errors import Rejection, RetryLater
from contracts.review import ReviewCase
from services.feedback.domain.deliverables import owed

log = structlog.get_logger(__name__)

PATIENCE = 2.0  # seconds; a review does not wait for who is away, and says so


async def delivered(bus: Bus, company: str, case: ReviewCase, context: Context) -> Delivered | None:
    """None when nothing is owed, or nobody can say what was delivered."""
    if not owed(case.spec).items:
        return None
    request = GetDelivered(company=company, node_id=case.node_id, attempt=case.attempt)
    try:
        return await bus.ask(request, context, patience=PATIENCE)
    except (RetryLater, Rejection) as away:
        log.warning("review.deliverables_not_asked", node_id=str(case.node_id), reason=str(away))
        return None
