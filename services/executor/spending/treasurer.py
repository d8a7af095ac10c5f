"""Looks after what nobody else will: reservations whose caller is gone, and nodes for whose calls there is room again."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from uuid import UUID

import structlog

from chassis.bus import Bus
from chassis.postgres import CONNECTION_LOST, Pool
from chassis.telemetry import RECONCILED
from chassis.unit_of_work import UnitOfWork
from services.executor.spending import store
from services.executor.spending.beginning import store as beginning
from services.executor.spending.till import Till
from services.executor.spending.waits import store as waits

log = structlog.get_logger(__name__)

MOST_AT_ONCE = 500


class Treasurer:
    """In every executor; what two of them do at once is done once. `every`: seconds between looks when nobody calls."""

    def __init__(self, pool: Pool, uow: UnitOfWork, bus: Bus, till: Till, *, every: float) -> None:
        self._pool = pool
        self._uow = uow
        self._bus = bus
        self._till = till
        self._every = every
        self._called = asyncio.Event()
        till.on_room = self.call

    def call(self) -> None:
        """There may be room, or somebody who needs some."""
        self._called.set()

    async def run(self, stop: asyncio.Event) -> None:
        fresh = True
        while not stop.is_set():
            self._called.clear()
            try:
                if fresh:  # this process may know prices that the one before did not
                    await waits.look_at_prices_again(self._pool)
                    fresh = False
                await self.look()
            except CONNECTION_LOST as error:
                log.warning("treasurer.database_gone", error=repr(error))
            except Exception:  # what mends must not end the process: the next look tries again
                log.exception("treasurer.look_failed")
            await self._rest(stop)

    async def look(self) -> None:
        for reservation in await store.lost(self._pool, MOST_AT_ONCE):
            if await self._settled(reservation, None):
                RECONCILED.labels("reservation_lost").inc()
                log.warning("budget.charged_in_full", reservation=str(reservation))
        for attempt in await beginning.ended(self._pool, MOST_AT_ONCE):
            await self._settled(attempt.reservation, attempt.cost)
        await store.forget_settled(self._pool)
        for found in await waits.releases(self._pool):
            await self._release(found)
        await waits.forget_stale_waits(self._pool)

    async def _settled(self, reservation: UUID, amount: Decimal | None) -> bool:
        """One that cannot be settled must not keep the others from it, nor nodes from the room that there is."""
        try:
            return await self._till.settle(reservation, amount)
        except CONNECTION_LOST:
            raise
        except Exception:
            log.exception("treasurer.not_settled", reservation=str(reservation))
            return False

    async def _release(self, found: waits.Release) -> None:
        async with self._uow.begin() as tx:
            if await waits.release(tx.conn, found):
                tx.after_commit(lambda: self._bus.ring("run", str(found.run_id).encode()))

    async def _rest(self, stop: asyncio.Event) -> None:
        events = [asyncio.create_task(event.wait()) for event in (stop, self._called)]
        try:
            await asyncio.wait(events, timeout=self._every, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in events:
                task.cancel()
