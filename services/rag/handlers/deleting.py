"""Deleting: bytes that no version names any more leave the object store, once nobody can be about to name them."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import uuid4

from chassis.job_table import Job, NotYet
from chassis.jobs import Jobs
from chassis.postgres import Connection
from chassis.unit_of_work import UnitOfWork
from contracts.errors import RetryLater
from services.rag.depot import Depot
from services.rag.domain.work import DELETE

LONGEST_PAUSE = 60.0  # seconds between attempts
FORGOTTEN = 86_400.0  # seconds; who still means to name what was stored has done so by then


class Deleting:
    """`grace` in seconds: how long bytes stay that somebody may be about to name."""

    def __init__(self, uow: UnitOfWork, jobs: Jobs, depot: Depot, grace: float) -> None:
        self._uow = uow
        self._jobs = jobs
        self._depot = depot
        self._grace = grace

    async def work(self, job: Job) -> None:
        """Marked first, so that nobody begins to use them, then deleted, then forgotten."""
        async with self._uow.begin(job.context) as tx:
            doomed, waits = await self._depot.objects(tx.conn).doom(job.company, job.payload["objects"], self._grace)
        try:
            for sha256 in doomed:
                await self._depot.delete(job.company, sha256, unless_younger_than=self._grace)
        except RetryLater as away:
            raise NotYet(job.pause(LONGEST_PAUSE), str(away)) from None
        async with self._uow.begin(job.context) as tx:
            await self._depot.objects(tx.conn).forget(job.company, doomed)
            if not waits:
                await self._jobs.finish(tx, job, {"objects": len(doomed)})
        if waits:
            raise NotYet(max(self._grace, job.pause(LONGEST_PAUSE)), "somebody wanted the same bytes a moment ago")

    async def begin(self, most: int) -> int:
        """Of what a crash has left: stored, and never named."""
        async with self._uow.begin() as tx:
            left = await self._depot.objects(tx.conn).doom_unused(None, max(FORGOTTEN, self._grace), most)
            for company in sorted({company for company, _, _ in left}):
                objects = [sha256 for of, sha256, _ in left if of == company]
                await self._jobs.enqueue(tx, DELETE, str(uuid4()), {"objects": objects}, company=company)
        return len(left)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A rule of retention."""

    deleting: Deleting
    name: str = "objects"

    async def step(self, _: Connection, most: int) -> int:
        return await self.deleting.begin(most)
