"""How long the executor keeps what: finished runs, their results in the object store, and dead workers."""

from __future__ import annotations

from dataclasses import dataclass

from chassis.blobs import Blobs
from chassis.postgres import Connection
from chassis.retention import DAY, OldRows, Retention
from services.executor.retention import store
from services.executor.settings import ExecutorSettings

RUNS_PER_STEP = 20  # of up to 200 nodes each
BLOBS_PER_STEP = 50
GRACE = 3600.0  # seconds in which whoever has just stored the same bytes will have written the row that names them


@dataclass(frozen=True, slots=True)
class FinishedRuns:
    keep: float
    name: str = "runs"

    async def step(self, connection: Connection, most: int) -> int:
        return await store.forget_runs(connection, self.keep, min(most, RUNS_PER_STEP))


@dataclass(frozen=True, slots=True)
class DiscardedBlobs:
    """Large results are shared by content: one goes when no row names it and nobody stored it anew lately."""

    blobs: Blobs
    grace: float = GRACE
    name: str = "blobs"

    async def step(self, connection: Connection, most: int) -> int:
        found = await store.discarded(connection, self.grace, min(most, BLOBS_PER_STEP))
        for key, in_use in found:
            if not in_use:
                await self.blobs.delete(key, unless_younger_than=self.grace)
        await store.settle(connection, [key for key, _ in found])
        return len(found)


def register(retention: Retention, blobs: Blobs, settings: ExecutorSettings) -> None:
    retention.spare("commands", store.ORDERS_A_LIVING_RUN)
    keep = settings.retention_runs_days * DAY
    workers = OldRows("workers", ("id",), "lease_until", keep, in_use=(store.WORKS,))
    retention.add(FinishedRuns(keep), DiscardedBlobs(blobs), workers)
