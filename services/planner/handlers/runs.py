"""Shows each task the state of its latest run, in whatever order the facts of its runs arrive."""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from chassis.unit_of_work import UnitOfWork
from contracts import executor
from contracts.envelope import Envelope
from contracts.executor import RunFact
from contracts.streams import PLANNER_RUNS
from services.planner.domain.task import RunState, is_latest, told
from services.planner.handlers.effects import show_run
from services.planner.store import Store

log = structlog.get_logger(__name__)

STATE: Mapping[type[RunFact], RunState] = {
    executor.RunStarted: RunState.RUNNING,
    executor.RunPaused: RunState.PAUSED,
    executor.RunResumed: RunState.RUNNING,
    executor.RunCompleted: RunState.COMPLETED,
    executor.RunFailed: RunState.FAILED,
    executor.RunCanceled: RunState.CANCELED,
}


class Runs:
    def __init__(self, uow: UnitOfWork) -> None:
        self._uow = uow

    async def on_fact(self, fact: RunFact, envelope: Envelope) -> None:
        async with self._uow.handling(envelope, PLANNER_RUNS.durable) as tx:
            store = Store(tx.conn)
            row = await store.lock_task(fact.company, fact.task_id, deleted_too=True) if fact.task_id else None
            if row is None:
                log.info("run.of_no_task", run_id=str(fact.run_id), task_id=str(fact.task_id))
                return
            current = await store.latest_run(row.task.id)
            run = await store.run_told_of(fact.company, row.task.id, fact.run_id)
            news = told(run, STATE[type(fact)], envelope.sequence)
            if news is None:
                return
            await store.save_run(news)
            if is_latest(news, current):
                await show_run(tx, row, news, getattr(fact, "reason", ""))
