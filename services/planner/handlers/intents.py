"""Work that is committed as a job together with the change that calls for it, so that no crash comes in between."""

from __future__ import annotations

from chassis.jobs import Jobs
from chassis.unit_of_work import Tx
from contracts.errors import RetryLater
from contracts.planner import Task
from services.planner.domain.control import is_due
from services.planner.domain.task import TaskRun
from services.planner.store.controls import ControlStore
from services.planner.store.dependencies import DependencyStore

CONTROL = "control"  # carry the task's latest order to its runs
START = "start"  # start a task that shall start by itself
RELEASE = "release"  # tell and start what waited for a task that is completed
ATTEMPTS = 100_000  # days of an executor that is away; what still fails then the reconciler finds
LONGEST_PAUSE = 10.0  # seconds between attempts


def again(attempt: int, away: RetryLater) -> RetryLater:
    """The same, with pauses that grow: an executor may be away for long."""
    pause = max(away.delay, 0.1 * 2.0 ** min(attempt, 20))
    return RetryLater(min(LONGEST_PAUSE, pause), str(away))


async def carry_order(tx: Tx, jobs: Jobs, task: Task) -> None:
    job_id = await jobs.enqueue(tx, CONTROL, str(task.id), {}, company=task.company_id)
    await ControlStore(tx.conn).set_job(task.id, job_id)


async def start_if_due(tx: Tx, jobs: Jobs, task: Task) -> bool:
    """`task` is locked and as it is now."""
    if not is_due(task):
        return False
    await jobs.enqueue(tx, START, str(task.id), {}, company=task.company_id)
    return True


async def release_dependents(tx: Tx, jobs: Jobs, task: Task, run: TaskRun) -> None:
    """A job of its own for each completion: one that is under way may have passed by already."""
    if await DependencyStore(tx.conn).is_needed(task.id):
        ref, payload = f"{run.run_id}:{run.sequence}", {"task_id": str(task.id)}
        await jobs.enqueue(tx, RELEASE, ref, payload, company=task.company_id)
