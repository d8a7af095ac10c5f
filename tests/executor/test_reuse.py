"""A new run of a task takes over what an earlier one has finished, where nothing has changed."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from chassis.testing.eventually import eventually
from chassis.testing.fake_behaviour import Behaviour
from chassis.testing.fake_openai import FakeOpenAI
from contracts.errors import Code
from contracts.executor import GetNode, RunStatus
from services.executor.starting import store as starting
from tests.executor.conftest import World, agent, noop, refusal
from tests.executor.test_steering import steer

WAITS = "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
PLAN = [
    agent("a", say="say:first"),
    agent("b", "a", say="fail:400:1 say:second"),
    agent("c", "b", say="say:third"),
]


async def a_failed_run(world: World, task: UUID) -> UUID:
    run_id = await world.start(*PLAN, task_id=task)
    await world.until(run_id, RunStatus.FAILED)
    return run_id


async def test_a_retry_pays_only_for_what_is_not_done(model: FakeOpenAI, live: World) -> None:
    task = uuid4()
    first = await a_failed_run(live, task)
    before = await live.nodes(first)

    second = await live.start(*PLAN, task_id=task, reuse_run_id=first)

    detail = await live.until(second, RunStatus.COMPLETED)
    nodes = await live.nodes(second)
    assert len(model.calls) == 4, "a and b of the first run, b and c of the second"
    taken = nodes["a"]
    assert (taken.reused_from, taken.attempt, taken.usage.requests) == (before["a"].id, 0, 0)
    assert (taken.output_preview, taken.checksum) == ("first", before["a"].checksum)
    assert "first" in model.calls[2].user, "what was taken over reaches those that follow"
    assert nodes["b"].reused_from is None
    assert detail.run.reuses_run_id == first
    assert detail.summary.llm_request_count == 2
    facts = await live.facts(second)
    assert facts[:2] == ["run.queued", "node.reused"]
    assert facts.count("node.started") == 2
    told = await live.fact(second, "executor.node.reused")
    assert (told["from_run_id"], told["from_node_id"]) == (str(first), str(before["a"].id))


async def test_a_run_whose_results_are_all_there_completes_without_a_call(model: FakeOpenAI, live: World) -> None:
    task, plan = uuid4(), [agent("a"), agent("b", "a")]
    model.script(Behaviour(text="é" * 50_000))
    first = await live.start(*plan, task_id=task)
    await live.until(first, RunStatus.COMPLETED)
    second = await live.start(*plan, task_id=task, reuse_run_id=first)
    await live.until(second, RunStatus.COMPLETED)
    assert len(model.calls) == 2
    assert [f for f in await live.facts(second) if f.startswith("run.")] == [
        "run.queued",
        "run.started",
        "run.completed",
    ]
    both = [(await live.nodes(run))["a"].id for run in (first, second)]
    old, new = [await live.ask(GetNode(node_id=node_id)) for node_id in both]
    assert new.output_ref is not None
    assert new.output_ref == old.output_ref, "a large result is not copied"


async def test_what_was_overridden_is_not_what_the_plan_says_and_runs_again(model: FakeOpenAI, live: World) -> None:
    task, plan = uuid4(), [agent("a", say="say:one"), agent("x", say="say:other")]
    first = await live.start(*plan, task_id=task)
    await live.until(first, RunStatus.COMPLETED)
    await steer(live, first, "a", "override", prompt="fail:400:9")
    await live.until(first, RunStatus.FAILED)
    await steer(live, first, "a", "override", prompt="say:changed by hand")
    await live.until(first, RunStatus.COMPLETED)
    second = await live.start(*plan, task_id=task, reuse_run_id=first)
    await live.until(second, RunStatus.COMPLETED)
    nodes = await live.nodes(second)
    assert (nodes["a"].reused_from, nodes["a"].output_preview) == (None, "one")
    assert nodes["x"].reused_from is not None


async def test_a_dry_run_has_no_results_to_take_over(model: FakeOpenAI, live: World) -> None:
    task = uuid4()
    dry = await live.start(agent("a"), task_id=task, dry_run=True)
    await live.until(dry, RunStatus.COMPLETED)
    real = await live.start(agent("a"), task_id=task, reuse_run_id=dry)
    await live.until(real, RunStatus.COMPLETED)
    assert len(model.calls) == 1


async def test_only_runs_of_the_same_task_and_company_share_results(live: World) -> None:
    first = await live.start(noop("a"), task_id=uuid4())
    await live.until(first)
    for fields, code in (
        ({"task_id": uuid4(), "reuse_run_id": first}, Code.INVALID),
        ({"reuse_run_id": first}, Code.INVALID),
        ({"task_id": uuid4(), "reuse_run_id": uuid4()}, Code.NOT_FOUND),
        ({"task_id": uuid4(), "reuse_run_id": first, "company": "other"}, Code.NOT_FOUND),
    ):
        assert (await refusal(live.start(noop("a"), **fields))).failure.code is code
    assert len(await live.rows("select id from runs")) == 1


async def test_a_run_is_not_gone_on_with_while_another_takes_over_its_results(
    model: FakeOpenAI, live: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order comes while the start is under way: it waits and is refused, instead of both waiting for each other."""
    task, original, inserted = uuid4(), starting.insert_run, asyncio.Event()

    async def inserted_and_then_in_the_way(*given: Any) -> bool:
        fresh = await original(*given)
        inserted.set()
        await eventually(lambda: live.rows(WAITS), what="the order waiting for the start")
        return fresh

    first = await live.start(noop("a"), task_id=task)
    await live.until(first, RunStatus.COMPLETED)
    monkeypatch.setattr(starting, "insert_run", inserted_and_then_in_the_way)
    start = asyncio.create_task(live.start(noop("a"), agent("b", say="stall:1"), task_id=task, reuse_run_id=first))
    await inserted.wait()
    refused = (await refusal(steer(live, first, "a", "override", params={"x": 1}))).failure
    assert (refused.code, refused.details) == (Code.RUN_ACTIVE, {"run_id": str(await start)})
    await live.order(await start, "cancel")
    await live.until(await start)
