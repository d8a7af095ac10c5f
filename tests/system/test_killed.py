"""kill -9 of any process in a run of 30 nodes: it completes, nothing finished is paid twice, no event is lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest

from chassis.testing.eventually import eventually
from chassis.testing.fake_behaviour import Behaviour
from tests.system.api import Api, Watcher
from tests.system.checks import (
    each_node_completed_once,
    nothing_finished_was_repeated,
    the_feed_is_whole,
    the_watcher_saw_it_all,
)
from tests.system.ledger import Ledger, Plan
from tests.system.world import World, as_the_keeper

VICTIMS = ("planner", "executor", "feedback", "publisher", "gateway", "nats", "postgres", "s3")


async def kill_at_random_points(world: World, ledger: Ledger, plan: Plan, victims: Sequence[str]) -> None:
    """One after the other, each after some more nodes are done and at any moment of the next ones."""
    done = 0
    for victim in victims:
        done += random.randint(2, max(2, len(plan.keys) // len(victims) - 2))
        await ledger.until_done(plan, done)
        await asyncio.sleep(random.random() / 10)  # no wait for anything: the moment shall be any
        world.restart(victim)


@pytest.mark.parametrize("victim", VICTIMS)
async def test_a_run_of_30_nodes_survives_the_death_of(victim: str, world: World, api: Api, ledger: Ledger) -> None:
    plan = Plan.layered(layers=5, width=6, words="slow:0.15")
    run_id = await api.launch(f"Without the {victim}", plan.nodes)
    async with Watcher([world.url()], run_id) as watcher:
        await kill_at_random_points(world, ledger, plan, [victim, victim])
        await api.ended(run_id, timeout=90)
        told = await api.told_all(run_id)
        await the_watcher_saw_it_all(watcher, told)
    each_node_completed_once(plan, told)
    await nothing_finished_was_repeated(ledger, plan, told, kills=2 if victim in ("executor", "postgres") else 0)
    await the_feed_is_whole(world, api)


async def test_a_run_survives_everything_dying_in_turn(world: World, api: Api, ledger: Ledger) -> None:
    victims = random.sample(VICTIMS, len(VICTIMS))
    plan = Plan.layered(layers=8, width=5, words="slow:0.15")
    run_id = await api.launch(f"Without {', '.join(victims)}", plan.nodes)
    async with Watcher([world.url()], run_id) as watcher:
        await kill_at_random_points(world, ledger, plan, victims)
        await api.ended(run_id, timeout=90)
        told = await api.told_all(run_id)
        await the_watcher_saw_it_all(watcher, told)
    each_node_completed_once(plan, told)
    await nothing_finished_was_repeated(ledger, plan, told, kills=2)
    await the_feed_is_whole(world, api)


async def test_the_death_of_what_we_stand_on_is_held_against_no_node(world: World, api: Api, ledger: Ledger) -> None:
    """Nodes that have a single attempt still have it afterwards."""
    plan = Plan.layered(layers=10, width=4, words="slow:0.1")
    run_id = await api.launch("One attempt each", plan.nodes, max_attempts=1)
    await kill_at_random_points(world, ledger, plan, ["postgres", "s3", "nats", "postgres"])
    await api.ended(run_id, timeout=90)
    each_node_completed_once(plan, await api.told_all(run_id))


async def test_a_large_result_waits_for_the_object_store(world: World, api: Api, ledger: Ledger) -> None:
    """It has been paid for: it is neither thrown away nor asked for again."""
    text = f"{'w' * 99} " * 1_500  # large in few tokens: each costs the SDK a quarter of a millisecond
    await ledger.script(Behaviour(text=text))
    plan = Plan().node("large", max_attempts=1)
    world.kill("s3")
    run_id = await api.launch("Large", plan.nodes)
    await ledger.until_done(plan, 1)
    await eventually(lambda: "node.waits" in world.log("executor"), what="the executor's wait")
    world.restart("s3")
    await api.ended(run_id)
    node = (await api.nodes(run_id))["large"]
    assert (await api.get(f"/nodes/{node['id']}"))["output"] == text
    assert await ledger.counts(plan) == {"large": 1}


async def test_facts_that_a_dead_planner_held_reach_the_next_one_soon(world: World, api: Api) -> None:
    """They were delivered to it and never acknowledged: nobody may have to wait a minute for their redelivery."""
    run_id = await api.launch("Held", Plan().node("a", words="slow:0.5").nodes)
    async with world.locked("planner.tasks"), as_the_keeper(world) as js:
        await api.ended(run_id)

        async def holds_some() -> bool:
            return bool((await js.consumer_info("EVENTS", "planner-runs")).num_ack_pending)

        await eventually(holds_some, what="facts in the hands of the planner")
        world.kill("planner")
    world.launch("planner")
    await api.told_all(run_id, timeout=45)


async def test_a_run_survives_everything_dying_at_once(world: World, api: Api, ledger: Ledger) -> None:
    """A power cut, but for the disks."""
    plan = Plan.layered(layers=5, width=4, words="slow:0.15")
    run_id = await api.launch("Without anything", plan.nodes)
    await ledger.until_done(plan, 7)
    world.kill(*VICTIMS, "keeper")
    world.restart("nats", "postgres", "s3")
    world.launch("keeper", "executor", "planner", "feedback", "publisher", "gateway")
    await api.ended(run_id, timeout=90)
    told = await api.told_all(run_id)
    each_node_completed_once(plan, told)
    await nothing_finished_was_repeated(ledger, plan, told, kills=1)
    await the_feed_is_whole(world, api)


@pytest.mark.parametrize("name", ["planner", "executor", "feedback", "publisher", "gateway"])
async def test_a_drained_service_loses_and_repeats_nothing(name: str, world: World, api: Api, ledger: Ledger) -> None:
    """SIGTERM in the middle of a run: what is at work is finished, the rest waits for the next process."""
    plan = Plan.layered(layers=4, width=4, words="slow:0.3")
    run_id = await api.launch(f"With a drained {name}", plan.nodes)
    async with Watcher([world.url()], run_id) as watcher:
        await ledger.until_done(plan, 5)
        assert await world.drain(name) == 0
        world.launch(name)
        await api.ended(run_id)
        told = await api.told_all(run_id)
        await the_watcher_saw_it_all(watcher, told)
    each_node_completed_once(plan, told)
    assert set((await ledger.counts(plan)).values()) == {1}
    await the_feed_is_whole(world, api)
