"""Mends what should not happen: one executor of all looks every few seconds, repairs, counts, and tells the run's story."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from uuid import UUID

import structlog

from chassis.bus import Bus
from chassis.context import Context
from chassis.pausing import happens_within
from chassis.postgres import CONNECTION_LOST, Pool
from chassis.telemetry import RECONCILED
from chassis.unit_of_work import UnitOfWork
from contracts.run_facts import RunRepaired, RunStalled
from services.executor.domain.waiting import explained
from services.executor.explaining.store import scene
from services.executor.reconciling import store
from services.executor.reconciling.store import Fault, Kind

log = structlog.get_logger(__name__)

LOCK = "select pg_try_advisory_lock(hashtext('executor.reconciler'))"
MOST_AT_ONCE = 200
STRETCH = 5_000  # nodes in one pass
FIRST = UUID(int=0)
LOOKS_PER_SILENCE = 10

DETAIL: Mapping[Kind, str] = {
    Kind.OWNER_GONE: "its executor is dead and had not given it back; another one may take it",
    Kind.ASLEEP: "something in it could move, and nothing was to wake it; an executor looks at it now",
    Kind.NOT_ENDED: "all its nodes had ended and it had not; an executor ends it now",
    Kind.ORDER_LOST: "what was asked of it had not been carried out; the order is given again",
    Kind.ATTEMPT_LEFT: "attempts were shown as running on which nobody worked; they count as lost",
    Kind.NODE_LEFT: "nodes were shown as running although it had ended; they have ended with it",
}


class Reconciler:
    """Seconds: how often to look, and after how much silence a run counts as stalled."""

    def __init__(self, pool: Pool, uow: UnitOfWork, bus: Bus, *, every: float, stall: float) -> None:
        self._pool = pool
        self._uow = uow
        self._bus = bus
        self._every = every
        self._stall = stall
        self._walked = FIRST
        self._listened = 0.0  # monotonic

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await self.look()
            except CONNECTION_LOST as error:
                log.warning("reconciler.database_gone", error=repr(error))
            except Exception:  # what mends must not end the process: the next look tries again
                log.exception("reconciler.look_failed")
            await happens_within(self._every, stop)

    async def look(self) -> None:
        """One pass, unless another executor is at it."""
        async with self._alone() as alone:
            if not alone:
                return
            for fault in await self._found():
                await self._repair(fault)
            if time.monotonic() - self._listened >= self._stall / LOOKS_PER_SILENCE:
                self._listened = time.monotonic()
                await self._tell_of_silence()

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[bool]:
        async with self._pool.acquire() as connection:  # its way back into the pool gives the lock back
            yield bool(await connection.fetchval(LOCK))

    async def _found(self) -> list[Fault]:
        async with self._pool.acquire() as connection:
            found = []
            for kind in Kind:
                if kind not in store.WALKED:
                    found += await store.faults(connection, kind, MOST_AT_ONCE)
            last = await store.stretch_end(connection, self._walked, STRETCH)
            for kind in store.WALKED:
                found += await store.faults_in_stretch(connection, kind, self._walked, last)
            self._walked = last or FIRST
            return found

    async def _repair(self, fault: Fault) -> None:
        async with self._uow.begin() as tx:
            run = await store.still(tx.conn, fault)
            if run is None:
                return
            await store.mend(tx.conn, fault)
            tx.context = Context.of(run.context)
            about = {"company": run.company, "run_id": run.id, "task_id": run.task_id, "title": run.title}
            tx.publish(RunRepaired(**about, repair=fault.kind, detail=DETAIL[fault.kind]))
            tx.after_commit(lambda: self._bus.ring("run", str(fault.run_id).encode()))
        RECONCILED.labels(fault.kind).inc()
        log.warning("run.repaired", run_id=str(fault.run_id), kind=fault.kind)

    async def _tell_of_silence(self) -> None:
        async with self._pool.acquire() as connection:
            silent = await store.silent_runs(connection, self._stall, MOST_AT_ONCE)
        for run_id in silent:
            async with self._uow.begin() as tx:
                if (run := await store.lock(tx.conn, run_id)) is None:
                    continue
                since = await store.note_stall(tx.conn, run_id)
                waiting = explained(await scene(tx.conn, run.company, run_id))
                tx.context = Context.of(run.context)
                tx.publish(
                    RunStalled(
                        company=run.company,
                        run_id=run.id,
                        task_id=run.task_id,
                        title=run.title,
                        since=since,
                        waiting=sorted({str(item.reason) for item in waiting.items}),
                    )
                )
            log.warning("run.stalled", run_id=str(run_id), since=str(since))
