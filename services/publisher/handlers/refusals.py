"""How publisher refuses what is not there or cannot be meant."""

from __future__ import annotations

from uuid import UUID

from chassis.unit_of_work import Tx
from contracts.errors import Code, Rejection
from services.publisher.store.deletions import DeletionStore


def wrong(field: str, message: str) -> Rejection:
    return Rejection(Code.INVALID, f"{field}: {message}", errors=[{"loc": [field], "msg": message}])


async def check_task(tx: Tx, company: str, task_id: UUID | None) -> None:
    """Raises Rejection(not_found) when it was deleted. What is asked about is locked."""
    if await DeletionStore(tx.conn).has(company, task_id):
        raise Rejection(Code.NOT_FOUND, f"task {task_id} was deleted; what it delivered is being removed")


def no_artifact(id: UUID) -> Rejection:
    return Rejection(Code.NOT_FOUND, f"there is no artifact {id}")


def no_preview(id: UUID) -> Rejection:
    return Rejection(Code.NOT_FOUND, f"there is no preview {id}")
