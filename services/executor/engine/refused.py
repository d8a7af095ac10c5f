"""A turn that the database refuses: the run that breaks it is found, and in it the report, so that it stops nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from uuid import UUID

import structlog

from chassis import telemetry
from chassis.llm.text import clean
from services.executor.domain.facts import Failed, Succeeded
from services.executor.engine.inbox import Batch, Report
from services.executor.engine.owner import Owner

log = structlog.get_logger(__name__)

LONGEST_PAUSE = 1.0


class Refusals:
    """`commit` is tried with smaller and smaller batches; `set_aside` is what is left for a run that breaks all of them."""

    def __init__(
        self,
        owner: Owner,
        commit: Callable[[Batch], Awaitable[None]],
        set_aside: Callable[[UUID], Awaitable[None]],
    ) -> None:
        self._owner = owner
        self._commit = commit
        self._set_aside = set_aside

    async def divide(self, batch: Batch, changed: Iterable[UUID], error: Exception) -> None:
        """`changed` are the runs of the turn that was refused."""
        runs = self._touched(batch, changed)
        if len(runs) > 1:
            log.warning("committer.divides", runs=len(runs), reports=len(batch.reports), error=repr(error))
            middle = len(runs) // 2
            parts = [batch.among(runs[:middle]), batch.among(runs[middle:])]
        else:
            parts = batch.parts()
        for part in parts:
            await self._commit(part)
        if parts:
            return
        if batch.reports:
            await self._condemn(batch.reports[0], error)
        elif runs:
            log.error("run.refused", run_id=str(runs[0]), exc_info=error)
            telemetry.report(error, run_id=str(runs[0]))
            await self._give_up_on(runs[0])
        else:
            log.error("committer.failed", batch=repr(batch), exc_info=error)
            telemetry.report(error)
            await asyncio.sleep(LONGEST_PAUSE)  # the next poll brings it back

    def _touched(self, batch: Batch, changed: Iterable[UUID]) -> list[UUID]:
        """Those of its input, and those that it claimed or let start something."""
        hungry = [run_id for run_id in self._owner.hungry if batch.concerns(run_id)]
        return list(dict.fromkeys([*batch.runs(), *changed, *hungry]))

    async def _condemn(self, report: Report, error: Exception) -> None:
        log.error("committer.cannot_store", run_id=str(report.run_id), fact=repr(report.fact)[:500], exc_info=error)
        telemetry.report(error, run_id=str(report.run_id))
        if isinstance(report.fact, Succeeded) or report.sidecars:
            message = clean(f"its result could not be stored: {error}")[:2000]
            fact = Failed(report.fact.key, report.fact.attempt, message, 0.0, retriable=False)  # type: ignore[union-attr]
            await self._commit(Batch([Report(report.run_id, fact)], only=frozenset([report.run_id])))
        else:
            await self._give_up_on(report.run_id)

    async def _give_up_on(self, run_id: UUID) -> None:
        """Not even a failure can be stored: a bug. Let another process, or a later release, try."""
        self._owner.forget(run_id)
        await self._set_aside(run_id)
