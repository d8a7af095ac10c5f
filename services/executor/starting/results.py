"""What a new run takes over from an earlier one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from uuid import UUID

from chassis.postgres import Connection
from contracts.errors import Code, Rejection
from contracts.executor import StartRun
from contracts.run_facts import NodeReused
from services.executor.domain.reuse import Earlier, Spec, reusable
from services.executor.starting import store
from services.executor.starting.store import EarlierRun


async def source(connection: Connection, request: StartRun) -> EarlierRun | None:
    """The run whose results may be taken over, held as it is until this transaction ends. Raises Rejection when it is
    not one of this task. Must come before the new run is inserted: an order that reopens the earlier one locks it first
    and claims the task then, and whoever took these in another order would wait for it while it waits for them."""
    if request.reuse_run_id is None:
        return None
    earlier = await store.earlier_run(connection, request.company, request.reuse_run_id)
    if earlier is None:
        raise Rejection(Code.NOT_FOUND, f"there is no run {request.reuse_run_id} whose results could be taken over")
    if request.task_id is None or earlier.task_id != request.task_id:
        message = f"the run {request.reuse_run_id} belongs to another task; only runs of one task share their results"
        raise Rejection(Code.INVALID, message, errors=[{"loc": ["reuse_run_id"], "msg": message}])
    return earlier


async def taken_over(
    connection: Connection, request: StartRun, earlier: EarlierRun | None, specs: Iterable[Spec]
) -> Mapping[str, Earlier]:
    """By key."""
    if earlier is None or earlier.dry_run != request.dry_run:  # a dry run has no results
        return {}
    results = await store.results_of(connection, earlier.id)
    return reusable(request.title, specs, earlier.title, results)


def told(request: StartRun, specs: Mapping[UUID, Spec], reused: Mapping[str, Earlier]) -> list[NodeReused]:
    return [
        NodeReused(
            company=request.company,
            run_id=request.run_id,
            node_id=node_id,
            key=spec["key"],
            attempt=0,
            from_run_id=request.reuse_run_id,
            from_node_id=reused[spec["key"]].id,
            checksum=reused[spec["key"]].checksum,
        )
        for node_id, spec in specs.items()
        if spec["key"] in reused and request.reuse_run_id is not None
    ]
