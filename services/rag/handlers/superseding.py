"""What follows when a space is searched by another index: its documents are told of, the one before goes by and by."""

from __future__ import annotations

from uuid import UUID

from pydantic import BaseModel

from chassis.job_table import Job
from chassis.jobs import Jobs
from chassis.unit_of_work import Tx, UnitOfWork
from services.rag.domain.work import SUPERSEDE
from services.rag.handlers.effects import tell_ready
from services.rag.handlers.turns import Turns
from services.rag.store.indexes import IndexesStore

SOME = 200  # documents or chunks at once; who changes what is searched in the space waits for so many


class SupersedeOrder(BaseModel):
    """The payload of its job."""

    space_id: UUID
    index: int  # the one that goes


async def supersede(tx: Tx, jobs: Jobs, company: str, space_id: UUID, index: int) -> None:
    """With the commit nobody searches this index, or adds to it."""
    payload = SupersedeOrder(space_id=space_id, index=index).model_dump(mode="json")
    await jobs.enqueue(tx, SUPERSEDE, str(index), payload, company=company)


class Superseding:
    def __init__(self, uow: UnitOfWork, turns: Turns, jobs: Jobs) -> None:
        self._uow = uow
        self._turns = turns
        self._jobs = jobs

    async def work(self, job: Job) -> None:
        order = SupersedeOrder.model_validate(job.payload)
        while await self._tell(job, order.space_id):
            pass
        while await self._clear(job, order):
            pass
        async with self._uow.begin(job.context) as tx:
            await self._jobs.finish(tx, job, {})

    async def _tell(self, job: Job, space_id: UUID) -> int:
        """The news of each document that was made anew end with a fact of its own."""
        async with self._turns.begin(space_id, job.context) as tx:
            looked_at, remade = await IndexesStore(tx.conn).announced(space_id, SOME)
            for one in remade:
                tell_ready(tx, one)
        return looked_at

    async def _clear(self, job: Job, order: SupersedeOrder) -> int:
        async with self._turns.begin(order.space_id, job.context) as tx:
            return await IndexesStore(tx.conn).clear(order.index, SOME)
