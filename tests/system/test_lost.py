"""The broker loses what it held while everything is up: the outboxes have it, and nothing answered 2xx is lost."""

from __future__ import annotations

from uuid import uuid4

from chassis.testing.eventually import eventually
from tests.system.api import Api, Watcher
from tests.system.checks import (
    each_node_completed_once,
    nothing_finished_was_repeated,
    the_feed_is_whole,
    the_watcher_saw_it_all,
)
from tests.system.ledger import Ledger, Plan
from tests.system.world import World, as_the_keeper

FLOWING_AGAIN = 30.0  # seconds, as the issue promises


async def drafts(api: Api, count: int) -> dict[str, str]:
    """Tasks that were answered 201, by id."""
    made = [await api.post("/tasks", {"title": f"draft {uuid4()}"}) for _ in range(count)]
    return {task["id"]: task["title"] for task in made}


async def told_of(api: Api, tasks: dict[str, str]) -> None:
    async def all_of_them() -> bool:
        told = [e["task_id"] for e in await api.events() if e["level"] == "TASK_CREATED"]
        return all(told.count(id) == 1 for id in tasks)

    await eventually(all_of_them, timeout=FLOWING_AGAIN, interval=0.2, what="a TASK_CREATED for each draft")


async def test_the_broker_s_store_wiped_while_everything_is_up(world: World, api: Api, ledger: Ledger) -> None:
    plan = Plan.layered(layers=5, width=4, words="slow:0.2")
    before = await drafts(api, 5)
    run_id = await api.launch("Survives a wipe", plan.nodes)
    async with Watcher([world.url()], run_id) as watcher:
        await ledger.until_done(plan, 6)
        world.lose_the_broker_s_disk()
        after = await eventually(lambda: drafts(api, 5), timeout=FLOWING_AGAIN, what="drafts after the wipe")
        await api.ended(run_id)
        told = await api.told_all(run_id)
        await the_watcher_saw_it_all(watcher, told)
    each_node_completed_once(plan, told)
    await nothing_finished_was_repeated(ledger, plan, told)
    await told_of(api, before | after)
    await the_feed_is_whole(world, api)


async def test_the_store_wiped_before_anybody_has_read_it(world: World, api: Api) -> None:
    """What the feed has not read yet is on no disk of the broker's any more; only the outboxes have it."""
    world.kill("gateway")
    world.launch("gateway.2")
    async with Api(world.url("gateway.2")) as other:
        await eventually(lambda: other.get("/tasks"), what="the other gateway")
        async with as_the_keeper(world) as js:
            await js.delete_consumer("EVENTS", "gateway-timeline")  # nobody reads until the keeper makes it again
        tasks = await drafts(other, 5)
        world.lose_the_broker_s_disk()
        await told_of(other, tasks)
        await the_feed_is_whole(world, other)


async def test_a_stream_deleted_under_a_live_server(world: World, api: Api, ledger: Ledger) -> None:
    plan = Plan.layered(layers=5, width=4, words="slow:0.2")
    before = await drafts(api, 5)
    run_id = await api.launch("Survives a deletion", plan.nodes)
    async with Watcher([world.url()], run_id) as watcher, as_the_keeper(world) as js:
        await ledger.until_done(plan, 6)
        await js.delete_stream("EVENTS")
        after = await drafts(api, 5)
        await api.ended(run_id)
        told = await api.told_all(run_id)
        await the_watcher_saw_it_all(watcher, told)
    each_node_completed_once(plan, told)
    await nothing_finished_was_repeated(ledger, plan, told)
    await told_of(api, before | after)
    await the_feed_is_whole(world, api)


async def test_a_consumer_deleted_under_a_live_server(world: World, api: Api) -> None:
    async with as_the_keeper(world) as js:
        for durable in ("gateway-timeline", "planner-runs"):
            await js.delete_consumer("EVENTS", durable)
    task = await api.post("/tasks", {"title": f"after the deletion {uuid4()}"})
    await told_of(api, {task["id"]: task["title"]})
    accepted = await api.post("/tasks", {"title": "Demo", "task_spec": {"type": "demo"}}, expect=202)
    run = await api.ended(accepted["run_id"])

    async def projected() -> bool:
        return bool((await api.get(f"/tasks/{run['task_id']}"))["status"] == "completed")

    await eventually(projected, timeout=FLOWING_AGAIN, what="the planner's view of the run")
    await the_feed_is_whole(world, api)
