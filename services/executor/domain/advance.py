"""What does a fact make of a run? The one door through which runs and nodes move."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from contracts.executor import RunStatus
from services.executor.domain import node_moves, orders, run_moves
from services.executor.domain.draft import Draft
from services.executor.domain.facts import (
    Asked,
    Claimed,
    Fact,
    Failed,
    HandedBack,
    Parked,
    Spent,
    Started,
    Steered,
    Succeeded,
    TimeIsUp,
    WeatherChanged,
)
from services.executor.domain.run import Run, Step, is_current


def advance(run: Run, fact: Fact, now: datetime) -> Step:
    """The run after a fact. What is told about an attempt that is not the current one changes nothing."""
    if isinstance(fact, Succeeded | Failed) and not is_current(run, fact.key, fact.attempt):
        return Step(run)
    draft = Draft(run, now)
    MAKES[type(fact)](draft, fact)
    run_moves.settle(draft)
    return draft.step()


def _claim(draft: Draft) -> None:
    for key in draft.running_in_order():
        node_moves.lose(draft, key)
    if draft.run.status is RunStatus.QUEUED and not draft.run.pause_reasons:
        run_moves.go(draft)


def _hand_back(draft: Draft) -> None:
    for key in draft.running_in_order():
        node_moves.hand_back(draft, key)


def _spend(draft: Draft, fact: Spent) -> None:
    draft.spend = draft.spend + fact.spend


#: what each fact makes of a run, before the run's own state follows from its nodes'
MAKES: Mapping[type[Fact], Callable[[Draft, Any], None]] = {
    Started: lambda draft, fact: node_moves.start(draft, fact.key),
    Succeeded: node_moves.succeed,
    Failed: node_moves.fail_attempt,
    Claimed: lambda draft, _: _claim(draft),
    Parked: node_moves.park,
    WeatherChanged: lambda draft, _: node_moves.look_again(draft),
    TimeIsUp: lambda draft, _: run_moves.fail_when_time_is_up(draft),
    HandedBack: lambda draft, _: _hand_back(draft),
    Spent: _spend,
    Asked: orders.obey,
    Steered: orders.steer,
}
