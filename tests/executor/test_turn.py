"""What a turn decides of runs it holds, without a database."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from chassis.context import Context
from services.executor.domain.facts import Claimed, Failed
from services.executor.domain.run import Run
from services.executor.engine.change import Change, Held
from services.executor.engine.claims import Brief
from services.executor.engine.store import Fence
from services.executor.engine.turn import Turn
from tests.executor.building import NOW, a_run, after, started


def let_go(run: Run, at: datetime) -> dict[UUID, Change]:
    """What becomes of a run that was found to be quiet a moment ago."""
    turn = Turn({run.id: Held(run, Brief(frozenset(), Context()))}, Fence(at, 1), free=0, gate=None)
    turn.let_go([run.id])
    return turn.changes


def test_a_quiet_run_is_given_away_until_its_retry_falls_due_and_kept_when_it_has() -> None:
    run = after(started(a_run({"a": ()})), Failed("a", 1, "it broke", 0.5))
    due = run.nodes["a"].due_at
    assert due is not None
    assert due > NOW
    given = let_go(run, due - timedelta(milliseconds=1))[run.id]
    assert (given.released, given.wake_at) == (True, due)
    assert let_go(run, due) == {}, "its time comes with the next turn, and nobody would be woken for it"


def test_a_run_that_goes_on_meanwhile_is_kept_though_no_slot_is_free() -> None:
    assert let_go(after(a_run(), Claimed()), NOW) == {}


def test_a_run_in_which_something_runs_meanwhile_is_kept() -> None:
    assert let_go(started(a_run()), NOW) == {}
