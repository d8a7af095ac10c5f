"""Old runs go whole, with the large results that only they had; young, living and reopening ones stay."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import pytest

from chassis.blobs import Blobs
from chassis.service import Chassis
from contracts.errors import Code, Rejection
from contracts.executor import GetRun, RunAction, RunStatus, StartRun
from contracts.refs import BlobRef
from services.executor.retention.rules import DiscardedBlobs
from tests.executor.conftest import World, noop

NEVER = asyncio.Event()
TABLES = ("runs", "nodes", "attempts", "sidecars", "stories")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_DEFAULT_PROVIDER", "demo")


async def finished(world: World, chassis: Chassis, *, days: int, result: BlobRef | None = None) -> UUID:
    """A run of two nodes that ended so many days ago; one node has a large result and an account."""
    run_id = await world.start(noop("a"), noop("b", "a"))
    await world.until(run_id, RunStatus.COMPLETED)
    await chassis.pool.execute(
        "update runs set ended_at = ended_at - make_interval(days => $2) where id = $1", run_id, days
    )
    stored = None if result is None else result.model_dump(mode="json")
    await chassis.pool.execute("update nodes set output_ref = $2 where run_id = $1 and key = 'a'", run_id, stored)
    await chassis.pool.execute(
        "insert into sidecars (run_id, node_id, attempt, document) select run_id, id, 1, '{}' from nodes where run_id = $1",
        run_id,
    )
    return run_id


async def left(chassis: Chassis) -> dict[str, int]:
    return {table: await chassis.pool.fetchval(f"select count(*) from {table}") for table in TABLES}


async def is_there(blobs: Blobs, ref: BlobRef) -> bool:
    try:
        await blobs.get(ref)
    except Rejection:
        return False
    return True


async def test_an_old_run_goes_with_all_that_it_consists_of_and_a_young_one_stays_whole(world: World) -> None:
    async with world.executor() as chassis:
        young = await finished(world, chassis, days=89)
        whole = await left(chassis)
        old = [await finished(world, chassis, days=91) for _ in range(3)]
        gone = await chassis.retention.prune(NEVER)
        assert gone["runs"] == 3
        assert await left(chassis) == whole
        assert (await world.run(young)).run.status is RunStatus.COMPLETED
        for run_id in old:
            with pytest.raises(Rejection) as refused:
                await world.ask(GetRun(run_id=run_id))
            assert refused.value.failure.code is Code.NOT_FOUND


@pytest.mark.parametrize(
    "what",
    [
        "update runs set reopening = true",
        "insert into signals (run_id, kind) select id, 'resume' from runs",
        "update runs set status = 'running', ended_at = null",
    ],
    ids=["it is being reopened", "an order waits for it", "it runs again"],
)
async def test_a_run_that_goes_on_is_not_old_whenever_it_ended(world: World, what: str) -> None:
    async with world.executor() as chassis:
        await finished(world, chassis, days=400)
    async with world.executor(poll_s=60) as chassis:
        await chassis.pool.execute(what)
        assert (await chassis.retention.prune(NEVER))["runs"] == 0
        assert (await left(chassis))["nodes"] == 2


async def test_a_large_result_goes_with_the_last_run_that_has_it_and_not_at_once(world: World) -> None:
    async with world.executor() as chassis:
        shared, own, kept = [
            await chassis.blobs.put(data, company="default", content_type="text/plain")
            for data in (b"shared" * 99, b"own" * 99, b"kept" * 99)
        ]
        await finished(world, chassis, days=91, result=shared)
        await finished(world, chassis, days=91, result=own)
        await finished(world, chassis, days=1, result=shared)
        await finished(world, chassis, days=1, result=kept)
        gone = await chassis.retention.prune(NEVER)
        assert (gone["runs"], gone["blobs"]) == (2, 0), "whoever has just stored the same bytes gets time to say so"
        assert [await is_there(chassis.blobs, ref) for ref in (shared, own, kept)] == [True, True, True]
        async with chassis.pool.acquire() as connection:
            assert await DiscardedBlobs(chassis.blobs, grace=0).step(connection, 500) == 2
            assert await DiscardedBlobs(chassis.blobs, grace=0).step(connection, 500) == 0
        assert [await is_there(chassis.blobs, ref) for ref in (shared, own, kept)] == [True, False, True]


async def test_bytes_that_were_stored_anew_lately_stay(world: World) -> None:
    async with world.executor() as chassis:
        ref = await chassis.blobs.put(b"again" * 99, company="default", content_type="text/plain")
        await chassis.blobs.delete(ref.key, unless_younger_than=60)
        assert await is_there(chassis.blobs, ref)
        await chassis.blobs.delete(ref.key, unless_younger_than=0)
        await chassis.blobs.delete(ref.key, unless_younger_than=0)
        assert not await is_there(chassis.blobs, ref)


async def test_the_order_of_a_living_run_is_remembered_and_that_of_a_finished_one_forgotten(world: World) -> None:
    order = StartRun(command_id=uuid4(), run_id=uuid4(), title="t", nodes=[noop("a")], gate="off")
    async with world.executor(reconcile_s=3600) as chassis:  # who would end the run again that is made to live
        await finished(world, chassis, days=1)
        await world.ask(order)
        await world.until(order.run_id, RunStatus.COMPLETED)
        await chassis.pool.execute("update commands set created_at = created_at - interval '1 year'")
        await chassis.pool.execute("update runs set ended_at = null, status = 'running' where id = $1", order.run_id)
        assert (await chassis.retention.prune(NEVER))["commands"] == 1
        assert await chassis.pool.fetchval("select command_id from commands") == order.command_id
        await world.order(order.run_id, RunAction.CANCEL)
        await world.until(order.run_id)
        await chassis.retention.prune(NEVER)
        assert await chassis.pool.fetchval("select count(*) from commands where command_id = $1", order.command_id) == 0


async def test_the_dead_are_forgotten_and_the_living_are_not(world: World) -> None:
    async with world.executor() as first:
        await finished(world, first, days=0)
    async with world.executor() as chassis:
        await finished(world, chassis, days=0)
        await chassis.pool.execute("update workers set lease_until = lease_until - interval '1 year' where dead")
        assert (await chassis.retention.prune(NEVER))["workers"] == 1
        assert await chassis.pool.fetchval("select count(*) from workers") == 1
