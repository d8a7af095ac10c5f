"""What the planner spares: orders whose run is alive, and the jobs its tasks refer to."""

from __future__ import annotations

import asyncio
from uuid import uuid4

from chassis.service import Chassis
from chassis.testing.eventually import eventually
from contracts import planner, run_facts
from contracts.planner import TaskStatus
from tests.planner.conftest import World

NEVER = asyncio.Event()


async def a_year_passes(chassis: Chassis) -> None:
    await chassis.pool.execute("update commands set created_at = created_at - interval '1 year'")
    await chassis.pool.execute("update jobs set ended_at = ended_at - interval '1 year'")


async def test_an_order_is_remembered_while_its_run_is_alive_and_forgotten_after_it(world: World) -> None:
    async with world.start_planner() as chassis:
        task = await world.planned()
        order = planner.StartTask(command_id=uuid4(), task_id=task.id)
        accepted = await world.ask(order)
        await a_year_passes(chassis)
        await chassis.retention.prune(NEVER)
        remembered = await chassis.pool.fetch("select command_id from commands")
        assert [row["command_id"] for row in remembered] == [order.command_id]
        assert await world.ask(order) == accepted
        ended = run_facts.RunFailed(run_id=accepted.run_id, task_id=task.id, title="t", reason="r", failed_nodes=["a"])
        await world.executor.tell(ended)
        await eventually(lambda: is_failed(world, task))
        await chassis.retention.prune(NEVER)
        assert await chassis.pool.fetchval("select count(*) from commands") == 0


async def is_failed(world: World, task: planner.Task) -> bool:
    return (await world.now(task)).status is TaskStatus.FAILED


async def test_the_latest_job_of_a_task_stays_and_earlier_ones_go(world: World) -> None:
    async with world.start_planner() as chassis:
        task = await world.task()
        drafts = [await world.ask(planner.DraftPlan(command_id=uuid4(), task_id=task.id)) for _ in range(2)]
        await a_year_passes(chassis)
        assert (await chassis.retention.prune(NEVER))["jobs"] == 1
        assert [row["id"] for row in await chassis.pool.fetch("select id from jobs")] == [drafts[1].job_id]
