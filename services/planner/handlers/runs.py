"""Shows each task the state of its latest run, in whatever order the facts of its runs arrive."""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from chassis.jobs import Jobs
from chassis.unit_of_work import UnitOfWork
from contracts import run_facts
from contracts.envelope import Envelope
from contracts.run_facts import RunFact
from contracts.streams import PLANNER_RUNS
from services.planner.domain.task import UNCONFIRMED, RunState, is_latest, told
from services.planner.handlers.effects import confirm, show_run
from services.planner.store.runs import RunStore
from services.planner.store.tasks import TaskStore

log = structlog.get_logger(__name__)

STATE: Mapping[type[RunFact], RunState] = {
    run_facts.RunStarted: RunState.RUNNING,
    run_facts.RunPaused: RunState.PAUSED,
    run_facts.RunResumed: RunState.RUNNING,
    run_facts.RunCompleted: RunState.COMPLETED,
    run_facts.RunFailed: RunState.FAILED,
    run_facts.RunCanceled: RunState.CANCELED,
}


class Runs:
    def __init__(self, uow: UnitOfWork, jobs: Jobs) -> None:
        self._uow = uow
        self._jobs = jobs

    async def on_fact(self, fact: RunFact, envelope: Envelope) -> None:
        async with self._uow.handling(envelope, PLANNER_RUNS.durable) as tx:
            tasks, runs = TaskStore(tx.conn), RunStore(tx.conn)
            row = await tasks.lock_task(fact.company, fact.task_id, deleted_too=True) if fact.task_id else None
            if row is None:
                log.info("run.of_no_task", run_id=str(fact.run_id), task_id=str(fact.task_id))
                return
            current = await runs.latest_run(row.task.id)
            run = await runs.run_told_of(fact.company, row.task.id, fact.run_id)
            news = told(run, STATE[type(fact)], envelope.sequence, fact.activation)
            if news is None:
                return
            await runs.save_run(news)
            if run.state in UNCONFIRMED:
                row = await confirm(tx, self._jobs, row, news)
            if is_latest(news, current):
                await show_run(tx, self._jobs, row, news, getattr(fact, "reason", ""))
