"""Which state is a task in, which moves are legal, and what do the facts of its runs make of it?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never
from uuid import UUID

from contracts.errors import FluidcrewError
from contracts.planner import PlanStatus, Task, TaskStatus, UpdateTask
from contracts.refs import DEFAULT_COMPANY


class IllegalMove(FluidcrewError):
    """A task was to move to a state that cannot follow the one it is in."""


class RunState(StrEnum):
    """What the planner knows of a run. The executor owns it; this is a projection."""

    ASKED = "asked"  # the executor was or will be asked; whether it accepted is not known
    REFUSED = "refused"  # the executor said no
    ACCEPTED = "accepted"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"


OVER = frozenset({RunState.COMPLETED, RunState.FAILED, RunState.CANCELED})
UNCONFIRMED = frozenset({RunState.ASKED, RunState.REFUSED})

#: The life of a task. `shown` may skip states: facts of a run come in any order, and only the newest counts.
LEGAL: Mapping[TaskStatus, frozenset[TaskStatus]] = {
    TaskStatus.DRAFT: frozenset({TaskStatus.READY, TaskStatus.FAILED}),  # failed: an ad-hoc task that got no plan
    TaskStatus.READY: frozenset({TaskStatus.DRAFT, TaskStatus.RUNNING, TaskStatus.FAILED}),
    TaskStatus.RUNNING: frozenset(
        {TaskStatus.PAUSED, TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.READY, TaskStatus.DRAFT}
    ),
    TaskStatus.PAUSED: frozenset(
        {TaskStatus.RUNNING, TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.READY, TaskStatus.DRAFT}
    ),
    TaskStatus.COMPLETED: frozenset({TaskStatus.READY, TaskStatus.RUNNING}),  # planned, started or reopened again
    TaskStatus.FAILED: frozenset({TaskStatus.READY, TaskStatus.RUNNING}),
}
ACTIVE = frozenset({TaskStatus.RUNNING, TaskStatus.PAUSED})
EDITABLE = ("title", "description", "archived", "job_type", "payload", "assignee", "priority")


@dataclass(frozen=True, slots=True)
class TaskRun:
    """`ordinal` grows with every run that was asked for; `sequence` is that of the newest fact taken in; `activation` grows
    with every run of the task that became active, as the executor has counted them."""

    run_id: UUID
    ordinal: int
    state: RunState
    sequence: int = 0
    dry_run: bool = False
    activation: int = 0


def moved(current: TaskStatus, wanted: TaskStatus) -> TaskStatus:
    if wanted != current and wanted not in LEGAL[current]:
        raise IllegalMove(f"a task cannot go from {current} to {wanted}")
    return wanted


def told(run: TaskRun, state: RunState, sequence: int, activation: int) -> TaskRun | None:
    """The run after a fact, or None when it is no news: older than, or the same as, what was taken in before."""
    if sequence <= run.sequence:
        return None
    return replace(run, state=state, sequence=sequence, activation=max(run.activation, activation))


def accepted(run: TaskRun, activation: int) -> TaskRun:
    """The run after the executor said yes. Its facts may have been quicker than the answer, and know more."""
    return replace(run, state=RunState.ACCEPTED, activation=activation) if run.state in UNCONFIRMED else run


def is_latest(run: TaskRun, current: TaskRun | None) -> bool:
    """Whether the task shows this run: the one that became active last, as only one of them is at a time.

    That is the newest, or an ended one that was reopened after it. A late fact of another changes nothing, and no clock
    has a say: those of two machines differ.
    """
    if run.state in UNCONFIRMED or current is None:
        return run.state not in UNCONFIRMED
    return (run.activation, run.ordinal) >= (current.activation, current.ordinal)


def shown(run: TaskRun, plan: PlanStatus | None) -> TaskStatus:
    """The status of a task whose latest run this is. Whatever it was before: the result must not depend on order."""
    idle = TaskStatus.READY if plan is PlanStatus.READY else TaskStatus.DRAFT
    match run.state:
        case RunState.ACCEPTED | RunState.RUNNING:
            return TaskStatus.RUNNING
        case RunState.PAUSED:
            return TaskStatus.PAUSED
        case RunState.COMPLETED:
            return idle if run.dry_run else TaskStatus.COMPLETED  # a rehearsal does not do the task
        case RunState.FAILED:
            return idle if run.dry_run else TaskStatus.FAILED
        case RunState.CANCELED:
            return idle
        case RunState.ASKED | RunState.REFUSED:
            return idle
        case _:
            assert_never(run.state)


def after_planning(status: TaskStatus, plan: PlanStatus) -> TaskStatus:
    """The status of a task whose plan changed. A run keeps the copy it was started with, so an active task stays."""
    if status in ACTIVE:
        return status
    if plan is PlanStatus.READY:
        return moved(status, TaskStatus.READY)
    return moved(status, TaskStatus.DRAFT) if status is TaskStatus.READY else status


def changes_of(request: UpdateTask) -> dict[str, object]:
    """What a person wants different; what is left out stays as it is."""
    given = {name: getattr(request, name) for name in EDITABLE}
    cleared = [*request.clears, *(["description"] if request.clear_description else [])]
    return {name: value for name, value in given.items() if value is not None} | dict.fromkeys(cleared)


def address(company: str, task_id: UUID, what: str = "") -> str:
    """The path under which the API offers this of a task, for refusals that name the way out."""
    scope = "" if company == DEFAULT_COMPANY else f"/companies/{company}"
    return f"{scope}/tasks/{task_id}{what}"


def launch_is_pending(task: Task) -> bool:
    """An ad-hoc task exists for one run; until the executor accepts that, it can still come to nothing."""
    return task.ad_hoc and task.run_id is None
