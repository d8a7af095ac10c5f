"""The bytes of deliverables, and those who delete them late, twice or half: what somebody names is there."""

from __future__ import annotations

from uuid import uuid4

import pytest

from chassis.service import Chassis
from chassis.testing.eventually import eventually
from contracts.artifacts import AddArtifact, Artifact, object_key
from contracts.errors import RetryLater
from contracts.previews import Sweep
from contracts.refs import BlobRef
from services.publisher.handlers import sweeping
from tests.publisher.conftest import World
from tests.publisher.test_publishing import gated
from tests.publisher.test_retention import stored


async def added(world: World, ref: BlobRef, name: str = "report.md") -> Artifact:
    return await world.ask(AddArtifact(command_id=uuid4(), task_id=world.task(), name=name, ref=ref))


async def test_what_is_not_in_the_store_is_not_taken_for_an_artifact(world: World) -> None:
    async with world.start_publisher():
        ref = await world.put(b"# Deleted before anybody said what it is")
        await world.executor.blobs.delete(object_key("default", ref.sha256), unless_younger_than=-2)
        with pytest.raises(RetryLater, match="send it again"):
            await added(world, ref, "report.bin")
        again = await world.put(b"# Deleted before anybody said what it is")
        assert (await added(world, again, "report.bin")).version == 1


async def test_what_was_to_be_deleted_and_nobody_deletes_does_not_stay_in_the_way(world: World) -> None:
    async with world.start_publisher(unused_after=0.0) as chassis:
        ref = await world.put(b"# Half deleted")
        await chassis.pool.execute(
            """
            insert into objects (company_id, sha256, size, wanted_at, doomed_at)
            values ('default', $1, $2, now() - interval '2 days', now() - interval '1 day')
            """,
            *(ref.sha256, ref.size),
        )
        with pytest.raises(RetryLater, match="being removed right now"):
            await added(world, ref)
        await world.ask(Sweep(command_id=uuid4(), dry_run=False))
        await eventually(lambda: _is_nobodys(world, ref), what="the end of the deletion")
        assert (await added(world, await world.put(b"# Half deleted"))).version == 1


async def _is_nobodys(world: World, ref: BlobRef) -> bool:
    return not await world.rows("select 1 from objects where sha256 = $1", ref.sha256)


async def test_who_deletes_late_does_not_delete_what_came_back_meanwhile(world: World) -> None:
    async with gated(world) as gate, world.start_publisher(s3_endpoint_url=gate.url, unused_after=0.0) as chassis:
        refs = [await world.put(f"# {number}".encode()) for number in range(3)]
        await doom(chassis, refs)
        gate.freeze()
        async with chassis.uow.begin() as tx:
            order = {"objects": [ref.sha256 for ref in refs]}
            await chassis.jobs.enqueue(tx, sweeping.DELETE, str(uuid4()), order, company="default")
        begun = "select exists (select from jobs where kind = 'delete' and state = 'running')"
        await eventually(lambda: chassis.pool.fetchval(begun), what="the deletion")
        await another_publisher_ends_it(chassis)
        for number, ref in enumerate(refs):
            await world.put(f"# {number}".encode())
            await doom(chassis, [ref], doomed_at=None)
        gate.thaw()
        await eventually(lambda: not chassis.jobs._running, what="the end of the one that came late")
        assert await stored(world, *refs) == [True] * 3


async def doom(chassis: Chassis, refs: list[BlobRef], doomed_at: str | None = "1 minute") -> None:
    for ref in refs:
        await chassis.pool.execute(
            """
            insert into objects (company_id, sha256, size, stored, doomed_at)
            values ('default', $1, $2, $3::text is null, now() - $3::text::interval)
            """,
            *(ref.sha256, ref.size, doomed_at),
        )


async def another_publisher_ends_it(chassis: Chassis) -> None:
    await chassis.pool.execute("update jobs set worker = gen_random_uuid() where kind = 'delete'")
    await chassis.pool.execute("delete from objects")
