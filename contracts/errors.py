"""Refusals whose code travels on the wire: what a caller can act on, apart from bugs.

Rejection            the request or message is wrong; repeating it changes nothing
RetryLater           it is right, but not now; `delay` seconds later it may work
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import Field

from contracts.refs import Value


class Code(StrEnum):
    BAD_REQUEST = "bad_request"  # the request makes no sense as a whole
    INVALID = "invalid"  # a field is wrong; `details.errors` names each
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    TITLE_TAKEN = "title_taken"
    ID_TAKEN = "id_taken"  # of a company or project
    PLAN_MISSING = "plan_missing"
    PLAN_NOT_READY = "plan_not_ready"
    RUN_ACTIVE = "run_active"  # `details.run_id` is the active one
    ILLEGAL_STATE = "illegal_state"  # `details.state` found, `details.legal` what would be
    NOTHING_TO_SKIP = "nothing_to_skip"
    CYCLE = "cycle"  # `details.cycle` names what would wait for itself
    PAUSED = "paused"  # a person's flag is in the way; resume or reset first
    CANCELED = "canceled"  # the same, of a cancel
    WAITS_FOR_TASKS = "waits_for_tasks"  # `details.waits_for` are not completed
    VERDICT_TAKEN = "verdict_taken"  # `details.current` is the feedback in force, which was not seen
    OVER_BUDGET = "over_budget"  # `details` name the budget, what is left of it and what would be needed
    IDEMPOTENCY_MISMATCH = "idempotency_mismatch"  # same key, another body
    IN_FLIGHT = "in_flight"  # same key, still being answered
    METHOD_NOT_ALLOWED = "method_not_allowed"  # `details.allowed` names those the path has
    NOT_ACCEPTABLE = "not_acceptable"
    REQUEST_TIMEOUT = "request_timeout"  # the body comes too slowly, or not at all
    TOO_LARGE = "too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"  # the owner of the answer is down; try again
    INTERNAL = "internal"  # a bug; the log of the owner knows more


class Failure(Value):
    """An error as it travels: in RPC replies, dead letters and problem+json bodies."""

    code: Code
    message: str
    details: dict[str, Any] = Field(default_factory=dict)
    retry_after: float | None = None  # seconds


class FluidcrewError(Exception):
    """Root of what our own code raises on purpose."""


class Rejection(FluidcrewError):
    """The request was refused."""

    def __init__(self, code: Code, message: str, **details: Any) -> None:
        super().__init__(message)
        self.failure = Failure(code=code, message=message, details=details)


class RetryLater(FluidcrewError):
    """It cannot be done now; the message or call should come back after `delay` seconds."""

    def __init__(self, delay: float, message: str = "not now", code: Code = Code.UNAVAILABLE) -> None:
        super().__init__(message)
        self.delay = delay
        self.failure = Failure(code=code, message=message, retry_after=delay)
