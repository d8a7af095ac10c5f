"""The life of this process as an executor: registered, kept alive by beats, and replaced by a new one when fenced off."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable
from uuid import UUID, uuid4

import structlog

from chassis.postgres import Pool
from services.executor.engine import store
from services.executor.engine.at_once.clock import Clock
from services.executor.engine.patience import Patience

log = structlog.get_logger(__name__)

SILENCE_BEFORE_REST = 0.7  # of the lease: without a beat for that long no new call is started


class Lease:
    """The row of `workers` that says we live. The database's clock decides; ours only makes us careful early."""

    def __init__(self, pool: Pool, seconds: float, on_lost: Callable[[], None]) -> None:
        self._pool = pool
        self.seconds = seconds
        self._on_lost = on_lost
        self.clock = Clock()
        self._renewed = 0.0  # monotonic, taken before the renewal was sent
        self.worker: UUID = uuid4()

    async def enter(self) -> None:
        """Begin a new incarnation, as soon as the database lets us."""
        patience = Patience()
        while True:
            try:
                return await self._register()
            except store.TROUBLE as error:
                await patience.wait("worker.cannot_register", error)

    async def _register(self) -> None:
        """What the former incarnation owned is no longer ours."""
        self.worker, asked = uuid4(), time.monotonic()
        await store.register_worker(self._pool, self.worker, socket.gethostname(), os.getpid(), self.seconds)
        self._renewed = asked
        log.info("worker.registered", worker=str(self.worker))

    def is_fresh(self) -> bool:
        """Sure enough to live to start something new."""
        return time.monotonic() - self._renewed < self.seconds * SILENCE_BEFORE_REST

    async def keep(self) -> None:
        """Beat five times per lease, for ever."""
        while True:
            await asyncio.sleep(self.seconds / 5)
            await self._beat()

    async def _beat(self) -> None:
        asked, worker = time.monotonic(), self.worker
        try:
            fence = await store.renew_lease(self._pool, worker, self.seconds)
        except store.TROUBLE as error:
            log.warning("worker.beat_failed", error=str(error))
            return
        if fence is not None:
            self._renewed = max(self._renewed, asked)
            if worker == self.worker:
                self.clock.heard(fence)
        elif worker == self.worker:
            log.error("worker.declared_dead", worker=str(worker))
            self._on_lost()

    async def retire(self) -> None:
        await store.retire_worker(self._pool, self.worker)
