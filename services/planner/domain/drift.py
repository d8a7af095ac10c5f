"""What does the executor's word about a run mend, when the facts that should have told it are lost?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from contracts.executor import Run, RunStatus
from services.planner.domain.task import OVER, RunState, TaskRun

STATE: Mapping[RunStatus, RunState] = {
    RunStatus.QUEUED: RunState.ACCEPTED,
    RunStatus.RUNNING: RunState.RUNNING,
    RunStatus.PAUSED: RunState.PAUSED,
    RunStatus.COMPLETED: RunState.COMPLETED,
    RunStatus.FAILED: RunState.FAILED,
    RunStatus.CANCELED: RunState.CANCELED,
}


class Fix(StrEnum):
    """What should not happen, as `reconcile_fixes_total` counts it."""

    RUN_DRIFTED = "run_drifted"  # the task showed another state than the run was in
    RUN_GONE = "run_gone"  # the executor has forgotten a run that never was told to have ended
    START_UNNOTED = "start_unnoted"  # the executor had accepted a run, and its answer was never written down
    ORDER_LEFT = "order_left"  # nobody was about to carry an order to a run
    START_LEFT = "start_left"  # nobody was about to start a task that may start
    RELEASE_LEFT = "release_left"  # nobody was about to release a task that waits for nothing more


DETAIL: Mapping[Fix, str] = {
    Fix.RUN_DRIFTED: "it had missed what became of its run; it shows what the executor says",
    Fix.RUN_GONE: "the executor does not know its run any more; it counts as failed",
    Fix.START_UNNOTED: "its run had been accepted and that was never noted; it is noted now",
    Fix.ORDER_LEFT: "an order to it had not reached its run, and nobody was about to carry it; it is on its way again",
    Fix.START_LEFT: "it was to start by itself, and nobody was about to start it; it starts now",
    Fix.RELEASE_LEFT: "everything it waited for was completed, and nobody had released it; it is released now",
}


@dataclass(frozen=True, slots=True)
class Mended:
    """The run as it is; `fix` is None when nothing was wrong."""

    run: TaskRun
    fix: Fix | None = None
    reason: str = ""


def mended(run: TaskRun, found: Run | None) -> Mended:
    """`found` is the executor's; None: it knows no such run."""
    if found is None:
        return _unknown(run)
    state = STATE[found.status]
    if state is run.state:
        return Mended(run)
    fix = Fix.START_UNNOTED if run.state is RunState.ASKED else Fix.RUN_DRIFTED
    activation = max(run.activation, found.activation)
    return Mended(replace(run, state=state, activation=activation), fix, found.error or "")


def _unknown(run: TaskRun) -> Mended:
    if run.state is RunState.ASKED:
        return Mended(replace(run, state=RunState.REFUSED))  # it never got there; a repetition may ask again
    if run.state in OVER:
        return Mended(run)
    return Mended(replace(run, state=RunState.FAILED), Fix.RUN_GONE, "the executor does not know this run any more")
