"""Watching a run: a connection that breaks anywhere is resumed without gap and without repeat, at any gateway."""

from __future__ import annotations

import random
from contextlib import AsyncExitStack

from chassis.testing.eventually import eventually
from tests.system.api import Api, Told, Watcher
from tests.system.checks import the_watcher_saw_it_all, until_the_end
from tests.system.ledger import Ledger, Plan
from tests.system.world import World


async def read(api: Api, run_id: str, last_id: str, count: int) -> list[Told]:
    """The next `count` messages, or fewer at the end of the story; then hang up."""
    found: list[Told] = []
    async with api.stream(run_id, last_id) as stream:
        async for item in stream:
            assert item.event == "message"
            found.append(item)
            if len(found) == count or item.data["level"] == "TASK_COMPLETED":
                return found
    raise AssertionError(f"the stream ended after {len(found)} of {count} messages")


async def test_a_stream_resumed_at_any_point_at_either_gateway_has_no_gap_and_no_repeat(world: World, api: Api) -> None:
    plan = Plan.layered(layers=4, width=4, words="slow:0.1")
    world.launch("gateway.2")
    async with Api(world.url("gateway.2")) as other:
        await started(other)
        run_id = await api.launch("Watched in pieces", plan.nodes)
        seen: list[Told] = []
        while not any(t.data["level"] == "TASK_COMPLETED" for t in seen):
            seen += await read(random.choice((api, other)), run_id, seen[-1].id if seen else "", random.randint(1, 5))
        told = until_the_end(await api.told_all(run_id))
        assert [t.data["id"] for t in seen][: len(told)] == [e["id"] for e in told]
        assert [t.id for t in seen][: len(told)] == [e["cursor"] for e in told]
        assert sorted(t.position for t in seen) == [t.position for t in seen]


async def test_many_watchers_at_both_gateways_see_the_same(world: World, api: Api) -> None:
    plan = Plan.layered(layers=3, width=3, words="slow:0.05")
    world.launch("gateway.2")
    async with Api(world.url("gateway.2")) as other:
        await started(other)
    run_id = await api.launch("Watched by many", plan.nodes)
    urls = [world.url(), world.url("gateway.2")]
    watchers = [Watcher([random.choice(urls)], run_id) for _ in range(20)]
    async with AsyncExitStack() as watching:
        for watcher in watchers:
            await watching.enter_async_context(watcher)
        told = await api.told_all(run_id)
        for watcher in watchers:
            await the_watcher_saw_it_all(watcher, told)


async def test_the_gateway_that_projects_dies_and_the_other_goes_on(world: World, api: Api, ledger: Ledger) -> None:
    plan = Plan.layered(layers=5, width=3, words="slow:0.2")
    world.launch("gateway.2")
    async with Api(world.url("gateway.2")) as other:
        await started(other)
        run_id = await api.launch("Change of gateways", plan.nodes)
        async with Watcher([world.url(), world.url("gateway.2")], run_id) as watcher:
            await eventually(lambda: watcher.connections == 1, what="its connection to the one that dies")
            await ledger.until_done(plan, 4)
            world.kill("gateway")
            await the_watcher_saw_it_all(watcher, await other.told_all(run_id))
            assert watcher.connections >= 2, "one more for what is told after the end"


async def test_an_id_that_is_not_ours_is_answered_with_a_reset_and_the_whole_story(api: Api) -> None:
    plan = Plan().node("a")
    run_id = await api.launch("Watched with a stranger's id", plan.nodes)
    await api.ended(run_id)
    told = await api.told_all(run_id)
    epoch = told[0]["cursor"].split(".")[0]
    for stranger in ("17", "0.0", "ffffffff.3", "what", "-1", f"{epoch}.999999999999999999"):
        async with api.stream(run_id, stranger) as stream:
            first = await anext(stream)
            assert first.event == "reset", stranger
            assert first.id == ""
            again = [(await anext(stream)).data["id"] for _ in told]
        assert again == [e["id"] for e in told]


async def test_tokens_arrive_while_the_model_speaks(api: Api) -> None:
    plan = Plan().node("a", words="slow:3 pace:0.05", say="one two three four five six seven eight")
    run_id = await api.launch("Listened to", plan.nodes)
    heard: list[str] = []
    async with api.http.stream("GET", f"/runs/{run_id}/tokens") as response:
        assert response.status_code == 200
        async for line in response.aiter_lines():
            if line.startswith("data:"):
                heard.append(line)
            if "eight" in line:
                break
    assert len(heard) > 1, "piece by piece, not all at the end"


async def started(api: Api) -> None:
    await eventually(lambda: api.get("/tasks"), what="the gateway's start")
