"""Which fact tells of a task's change, and how much of a long list fits into one?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, assert_never
from uuid import UUID

from contracts import planner
from contracts.message import Event
from contracts.plan import Assignment
from contracts.planner import Task, TaskStatus
from contracts.task_control import TaskCanceled

MAX_ERRORS, MAX_ERROR = 100, 300  # of a fact: it must stay far below what may travel
MAX_ASSIGNED = 32 * 1024  # bytes of assignments in one fact


def now_is(task: Task, status: TaskStatus, run_id: UUID | None, reason: str = "", *, canceled: bool = False) -> Event:
    """The fact that a task has come to this status. `run_id` is that of its latest run, if it has one; `canceled` when
    that was canceled."""
    about: dict[str, Any] = {"company": task.company_id, "task_id": task.id, "title": task.title}
    if canceled:
        return TaskCanceled(**about, run_id=run_id)
    match status:
        case TaskStatus.DRAFT:
            return planner.TaskWasUpdated(**about)
        case TaskStatus.READY:
            return planner.TaskReady(**about)
        case TaskStatus.RUNNING:
            resumed = task.status is TaskStatus.PAUSED and task.run_id == run_id
            return (planner.TaskResumed if resumed else planner.TaskStarted)(**about, run_id=run_id)
        case TaskStatus.PAUSED:
            return planner.TaskPaused(**about, run_id=run_id)
        case TaskStatus.COMPLETED:
            return planner.TaskCompleted(**about, run_id=run_id)
        case TaskStatus.FAILED:
            return planner.TaskFailed(**about, run_id=run_id, reason=reason[:2000] or "the run failed")
        case _:
            assert_never(status)


def shortened(errors: Iterable[str]) -> list[str]:
    """The whole list stays with the plan."""
    everything = list(errors)
    shown = [error if len(error) <= MAX_ERROR else f"{error[: MAX_ERROR - 1]}…" for error in everything[:MAX_ERRORS]]
    more = len(everything) - len(shown)
    return [*shown, f"and {more} more; the plan has them all"] if more else shown


def portions(items: Iterable[Assignment]) -> Iterator[list[Assignment]]:
    """Assignments in portions that fit into a fact, without their params."""
    portion: list[Assignment] = []
    size = 0
    for item in items:
        told = item.model_copy(update={"params": {}})
        length = len(told.model_dump_json())
        if portion and size + length > MAX_ASSIGNED:
            yield portion
            portion, size = [], 0
        portion.append(told)
        size += length
    if portion:
        yield portion
