"""What follows a failed attempt: another one, and when, or the end?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

MAX_ATTEMPTS = 4
MAX_LOSSES = 5  # whoever runs it dies: better a failed node than a dead fleet
MAX_WAITS = 10  # times a node may be turned away when the excuse ends some time
FIRST_BACKOFF = 0.5  # seconds; doubles with each failure
LONGEST_BACKOFF = 30.0
LONGEST_RETRY_AFTER = 86_400.0


@dataclass(frozen=True, slots=True)
class RetryAt:
    """Another attempt when the time has come. `counted` is false when the node is not to blame."""

    due: datetime
    counted: bool


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No further attempt."""


RetryDecision = RetryAt | GiveUp


@dataclass(frozen=True, slots=True)
class History:
    """What a node has been through, the failure that just happened not included. `waits` are attempts that came to
    nothing because the model was not to be had."""

    failures: int
    losses: int
    waits: int
    max_attempts: int


def after_failure(
    history: History,
    *,
    retriable: bool,
    weather: bool,
    excuse_ends: bool,
    retry_after: float | None,
    jitter: float,
    now: datetime,
) -> RetryDecision:
    """`jitter` in [0, 1) is the chance of full jitter; `retry_after` is what it has to wait at least, in seconds.

    In bad weather without a `retry_after` the circuit says when it goes on: the node is ready at once, and is parked.
    """
    if weather and not (excuse_ends and history.waits >= MAX_WAITS):
        pause = _delay(history.waits, retry_after, jitter) if retry_after is not None else timedelta()
        return RetryAt(now + pause, counted=False)
    if not retriable or history.failures + 1 >= history.max_attempts:
        return GiveUp()
    return RetryAt(now + _delay(history.failures, retry_after, jitter), counted=True)


def lost_too_often(history: History) -> bool:
    """A lost attempt is repeated at once: its worker is dead, not the node. But not for ever."""
    return history.losses + 1 >= MAX_LOSSES


def _delay(earlier: int, retry_after: float | None, jitter: float) -> timedelta:
    """Full jitter below a doubling ceiling; what the provider named is the least we wait, spread by half a second."""
    ceiling = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2 ** min(earlier, 16))
    if retry_after is None or not math.isfinite(retry_after) or retry_after <= 0:
        return timedelta(seconds=jitter * ceiling)
    return timedelta(seconds=min(retry_after, LONGEST_RETRY_AFTER) + jitter * FIRST_BACKOFF)
