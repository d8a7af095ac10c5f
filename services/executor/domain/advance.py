"""What does a fact make of a run? The one door through which runs and nodes move."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from contracts.executor import RunStatus
from services.executor.domain import node_moves, orders, results, review, run_moves
from services.executor.domain.draft import Draft
from services.executor.domain.facts import (
    Asked,
    Claimed,
    Fact,
    Failed,
    Funded,
    HandedBack,
    Judged,
    Parked,
    Rerun,
    Spent,
    Started,
    Steered,
    Succeeded,
    TimeIsUp,
    Unfunded,
    WeatherChanged,
)
from services.executor.domain.run import Course, Run, Step, is_current


def advance(run: Run, fact: Fact, now: datetime) -> Step:
    """The run after a fact."""
    if is_late(run, fact):
        return Step(run)
    draft = Draft(run, now)
    apply(draft, fact)
    return draft.step()


def apply(draft: Draft, fact: Fact) -> None:
    """The same for one fact after the other."""
    if not is_late(draft, fact):
        MAKES[type(fact)](draft, fact)
        run_moves.settle(draft)


def is_late(run: Course, fact: Fact) -> bool:
    """What is told about an attempt that is not the current one changes nothing."""
    return isinstance(fact, Succeeded | Failed | Unfunded) and not is_current(run, fact.key, fact.attempt)


def _claim(draft: Draft) -> None:
    for key in draft.running_in_order():
        node_moves.lose(draft, key)
    if draft.run.status is RunStatus.QUEUED and not draft.run.pause_reasons:
        run_moves.go(draft)


def _look_at_the_clock(draft: Draft) -> None:
    run_moves.fail_when_time_is_up(draft)
    review.let_overdue_ones_go(draft)


def _hand_back(draft: Draft) -> None:
    for key in draft.running_in_order():
        node_moves.hand_back(draft, key)


def _spend(draft: Draft, fact: Spent) -> None:
    draft.spend = draft.spend + fact.spend


#: what each fact makes of a run, before the run's own state follows from its nodes'
MAKES: Mapping[type[Fact], Callable[[Draft, Any], None]] = {
    Started: lambda draft, fact: node_moves.start(draft, fact.key),
    Succeeded: results.succeed,
    Failed: node_moves.fail_attempt,
    Unfunded: node_moves.run_short,
    Funded: lambda draft, fact: orders.fund(draft, fact.keys),
    Claimed: lambda draft, _: _claim(draft),
    Parked: node_moves.park,
    WeatherChanged: lambda draft, _: node_moves.look_again(draft),
    TimeIsUp: lambda draft, _: _look_at_the_clock(draft),
    HandedBack: lambda draft, _: _hand_back(draft),
    Spent: _spend,
    Asked: orders.obey,
    Steered: orders.steer,
    Rerun: orders.run_again,
    Judged: review.judge,
}
