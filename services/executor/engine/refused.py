"""A turn that the database refuses: the run that breaks it is found, and in it the report, so that it stops nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from uuid import UUID

import asyncpg
import structlog

from chassis import telemetry
from chassis.llm.sidecar import invalid
from chassis.llm.text import clean
from services.executor.domain.facts import NO_EFFORT, Effort, Failed, Succeeded, Unfunded
from services.executor.engine.inbox import Batch, Report
from services.executor.engine.owner import Owner
from services.executor.engine.patience import LONGEST_PAUSE, Patience
from services.executor.engine.store import TROUBLE

log = structlog.get_logger(__name__)

#: the database says that what we write is wrong; any other trouble it has is waited for, and costs nobody a result
REFUSED = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.ProgramLimitExceededError)


class Refusals:
    """`commit` is tried with smaller and smaller batches; `set_aside` is what is left for a run that breaks all of them,
    together with what its orders may be to blame for."""

    def __init__(
        self,
        owner: Owner,
        commit: Callable[[Batch], Awaitable[None]],
        set_aside: Callable[[UUID, Exception | None], Awaitable[None]],
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
            await self._give_up_on(runs[0], error)
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
        if (less := reduced(report, error)) is not None:
            await self._commit(Batch([less], only=frozenset([report.run_id])))
        else:
            await self._give_up_on(report.run_id, None)

    async def _give_up_on(self, run_id: UUID, error: Exception | None) -> None:
        """Not even a failure can be stored: a bug. Let another process, or a later release, try."""
        self._owner.forget(run_id)
        patience = Patience()
        while True:
            try:
                return await self._set_aside(run_id, error)
            except REFUSED as refusal:  # nothing of it can be written: it stays as it is while this process lives
                log.exception("run.cannot_be_set_aside", run_id=str(run_id))
                return telemetry.report(refusal, run_id=str(run_id))
            except TROUBLE as trouble:
                await patience.wait("run.waits_to_be_set_aside", trouble)


def reduced(report: Report, error: Exception) -> Report | None:
    """The same with one thing less that the database may refuse: an account first, then the result, then words about what
    it took, and what it took last of all. None when nothing is left to leave out."""
    fact = report.fact
    if not isinstance(fact, Succeeded | Failed | Unfunded):
        return None
    reason = getattr(error, "message", None) or error  # without the row, of which Postgres tells as well
    said = clean(f"could not be stored: {reason}")[:2000]
    if any(len(sidecar) > 1 for sidecar in report.sidecars):
        stubs = tuple({"metadata": invalid([f"it {said}"])} for _ in report.sidecars)
        return replace(report, sidecars=stubs)
    if isinstance(fact, Succeeded):
        failed = Failed(fact.key, fact.attempt, f"its result {said}", 0.0, retriable=False, effort=fact.effort)
        return replace(report, fact=failed)
    if fact.effort.model is not None or fact.effort.requested is not None:
        return replace(report, fact=replace(fact, effort=Effort(fact.effort.spend, fact.effort.duration_ms)))
    if fact.effort is not NO_EFFORT:
        return replace(report, fact=replace(fact, effort=NO_EFFORT))
    return replace(report, sidecars=()) if report.sidecars else None
