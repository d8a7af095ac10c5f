"""How much repeating may a provider be asked for? A token bucket: a tenth of the calls, and a little at any rate."""

from __future__ import annotations

from typing import NamedTuple

SHARE = 0.1  # of a retry that each call earns
PER_SECOND = 1 / 6  # and what time earns: ten a minute
MOST = 5.0  # retries saved up
LONGEST_WAIT = 30.0


class RetryBudget(NamedTuple):
    """Retries that may begin at once; below 0 they are promised to those who wait. `at` is a monotonic clock's."""

    tokens: float = MOST
    at: float = 0.0


def called(budget: RetryBudget) -> RetryBudget:
    return RetryBudget(min(MOST, budget.tokens + SHARE), budget.at)


def retried(budget: RetryBudget, now: float) -> tuple[RetryBudget, float]:
    """With one retry taken, and the seconds it has to wait for its turn. It is never refused."""
    left = min(MOST, budget.tokens + (now - budget.at) * PER_SECOND) - 1
    wait = max(0.0, -left) / PER_SECOND
    if wait > LONGEST_WAIT:
        return RetryBudget(-LONGEST_WAIT * PER_SECOND, now), LONGEST_WAIT
    return RetryBudget(left, now), wait
