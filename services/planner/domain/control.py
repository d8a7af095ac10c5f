"""What may people ask of a task, which flags does it leave, and do they let a run start?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid5

from contracts.errors import Code, Rejection
from contracts.executor import ControlMode, ControlRun, RunAction
from contracts.planner import Task, TaskControl, TaskStatus
from contracts.task_control import ControlTask, TaskAction
from services.planner.domain.task import address

ENDED = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED})
#: what the executor is asked to do with the task's runs; a reset touches none
TO_RUNS: Mapping[TaskAction, RunAction] = {
    TaskAction.PAUSE: RunAction.PAUSE,
    TaskAction.RESUME: RunAction.RESUME,
    TaskAction.CANCEL: RunAction.CANCEL,
}
#: refusals to start that vanish without a word from the executor
GATES = frozenset({Code.CANCELED, Code.PAUSED, Code.WAITS_FOR_TASKS})


@dataclass(frozen=True, slots=True)
class Order:
    """The latest thing asked of a task's runs. It replaces the ones before it."""

    id: UUID
    action: TaskAction
    mode: ControlMode = ControlMode.FINISH
    by: str | None = None


def legal_actions(task: Task, active: bool) -> list[TaskAction]:
    """`active` when a run of the task has not ended."""
    flags, ended = task.control, task.status in ENDED
    possible = {
        TaskAction.PAUSE: not flags.cancel and (flags.pause or not ended),
        TaskAction.RESUME: not (flags.cancel and active),
        TaskAction.CANCEL: flags.cancel or not ended,
        TaskAction.RESET: True,
    }
    return [action for action in TaskAction if possible[action]]


def judge(action: TaskAction, task: Task, active: bool) -> None:
    """Raises Rejection(illegal_state) with what would be legal."""
    may = legal_actions(task, active)
    if action not in may:
        raise Rejection(
            Code.ILLEGAL_STATE,
            f"the task is {_in_words(task, active)}; {action} is not possible, only {', '.join(may)}",
            state=task.status,
            legal=may,
        )


def _in_words(task: Task, active: bool) -> str:
    if task.control.cancel:
        return "being canceled" if active else "canceled"
    return f"{task.status}"


def flags_after(order: ControlTask, before: TaskControl, now: datetime) -> TaskControl:
    """`before` itself when the order changes nothing."""
    pause, cancel = order.action is TaskAction.PAUSE, order.action is TaskAction.CANCEL
    if (pause, cancel) == (before.pause, before.cancel):
        return before
    return TaskControl(pause=pause, cancel=cancel, asked_at=now, asked_by=order.by)


def asked_for(action: TaskAction, task: Task, active: bool) -> TaskStatus:
    """The status an order aims at. Without an active run only the flags change."""
    if not active or action is TaskAction.RESET:
        return task.status
    return {
        TaskAction.PAUSE: TaskStatus.PAUSED,
        TaskAction.RESUME: TaskStatus.RUNNING,
        TaskAction.CANCEL: TaskStatus.READY,
    }[action]


def control_run(company: str, run_id: UUID, order: Order) -> ControlRun:
    """Under an id that follows from order and run: however often it is sent, the executor obeys once."""
    return ControlRun(
        company=company,
        command_id=uuid5(order.id, str(run_id)),
        run_id=run_id,
        action=TO_RUNS[order.action],
        mode=order.mode,
        by=order.by,
    )


def came_too_late(order: Order, refusal: Rejection) -> Rejection | None:
    """What the person should hear of the executor's refusal: a run that is being canceled cannot be resumed. That it had
    ended meanwhile is no mistake: the flags hold for what comes next."""
    state = refusal.failure.details.get("state")
    if order.action is not TaskAction.RESUME or state not in ("queued", "running", "paused"):
        return None
    return Rejection(
        Code.ILLEGAL_STATE,
        f"the flags are cleared, but the run cannot be resumed: {refusal}",
        state=state,
        legal=[TaskAction.CANCEL, TaskAction.RESET],
    )


def let_start(task: Task) -> None:
    """Raises Rejection(canceled), (paused) or (waits_for_tasks) while something other than the plan is in the way."""
    flags = task.control
    if flags.cancel:
        raise Rejection(Code.CANCELED, _blocked("canceled", task), **_who(flags))
    if flags.pause:
        raise Rejection(Code.PAUSED, _blocked("paused", task), **_who(flags))
    if task.waits_for:
        raise Rejection(
            Code.WAITS_FOR_TASKS,
            f"the task waits for {_others(len(task.waits_for))} to be completed; "
            f"GET {address(task.company_id, task.id, '/dependencies')} shows how they stand",
            waits_for=[str(id) for id in task.waits_for],
        )


def may_start(task: Task) -> bool:
    return not (task.control.cancel or task.control.pause or task.waits_for)


def _others(count: int) -> str:
    return "one other task" if count == 1 else f"{count} other tasks"


def _blocked(how: str, task: Task) -> str:
    by = f" by {task.control.asked_by}" if task.control.asked_by else ""
    return f"the task was {how}{by}; POST {address(task.company_id, task.id, '/resume')} or …/reset first"


def _who(flags: TaskControl) -> dict[str, str | None]:
    return {"asked_by": flags.asked_by, "asked_at": flags.asked_at.isoformat() if flags.asked_at else None}


def is_due(task: Task) -> bool:
    """Whether a task that shall start by itself can do so now."""
    return task.auto_start and task.status is TaskStatus.READY and may_start(task)
