"""What another attempt is told of the one before, and which attempts count as revisions that nobody asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from chassis.testing.eventually import eventually
from chassis.testing.fake_openai import FakeOpenAI
from contracts.executor import NodeStatus, RunStatus
from contracts.verdict import Effect
from tests.executor.conftest import World, agent
from tests.executor.test_ownership import engine_of
from tests.executor.test_refusals import deaf
from tests.executor.verdicts import Judge, judging

REVIEWING = NodeStatus.REVIEWING


@pytest.fixture
async def judge(world: World) -> AsyncIterator[Judge]:
    async with judging(world) as judge:
        yield judge


async def test_another_attempt_is_told_the_critique_the_instructions_and_what_they_are_about(
    model: FakeOpenAI, live: World, judge: Judge
) -> None:
    run_id = await live.start(agent("a", say="say:first"), gate="gate")
    await judge.until(run_id, "a", REVIEWING)
    await judge.give(run_id, "a", Effect.REVISE, critique="it names no source")
    node = await judge.until(run_id, "a", REVIEWING, attempt=2)
    checksum = (await live.rows("select checksum from attempts where node_id = $1 and number = 1", node.id))[0][0]
    fenced = f"<data {checksum[:16]}>\nfirst\n</data {checksum[:16]}>"
    delivered, found = model.calls[-1].user.split("## What a review found wrong with attempt 1 at this step\n")
    assert fenced in delivered.split("## What attempt 1 at this step delivered\n")[1]
    assert "it names no source" in found
    await judge.rerun(run_id, "a", prompt="fail:400:1", instructions="Name one.")
    await judge.until(run_id, "a", NodeStatus.FAILED, attempt=3)
    await judge.rerun(run_id, "a", prompt="say:third")
    await judge.until(run_id, "a", REVIEWING, attempt=4)
    assert "## What attempt 2 at this step delivered\n" in model.calls[-1].user, "attempt 3 delivered nothing"
    await judge.rerun(run_id, "a")
    await judge.until(run_id, "a", REVIEWING, attempt=5)
    assert "delivered" not in model.calls[-1].user, "nobody has said anything about attempt 4"
    await judge.give(run_id, "a", Effect.RELEASE)
    await live.until(run_id, RunStatus.COMPLETED)


async def test_only_attempts_that_followed_a_review_by_themselves_are_revisions(
    model: FakeOpenAI, live: World, judge: Judge
) -> None:
    run_id = await live.start(agent("a", say="say:one"), gate="gate")
    await judge.until(run_id, "a", REVIEWING)
    late = await judge.give(run_id, "a", Effect.NOTE)
    await judge.heeded(late)
    await judge.rerun(run_id, "a", instructions="Name one.")
    await judge.until(run_id, "a", REVIEWING, attempt=2)
    await judge.give(run_id, "a", Effect.REVISE, attempt=1)
    await judge.told(run_id, "node.verdict_lapsed")
    assert (await judge.case(run_id, "a")).revisions == 0, "it came too late, and no attempt followed it"
    await judge.give(run_id, "a", Effect.REVISE)
    await judge.until(run_id, "a", REVIEWING, attempt=3)
    assert [(await judge.case(run_id, "a", attempt)).revisions for attempt in (1, 2, 3)] == [0, 0, 1]


async def test_a_revision_that_an_order_overtakes_before_it_begins_is_none(
    model: FakeOpenAI, world: World, judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.executor() as chassis:
        run_id = await world.start(agent("a", say="say:one"), gate="gate")
        await judge.until(run_id, "a", REVIEWING)
        with monkeypatch.context() as patch:
            deaf(chassis, patch)
            await judge.give(run_id, "a", Effect.REVISE, critique="it names no source")
            await eventually(lambda: world.rows("select from signals where run_id = $1", run_id))
            await judge.rerun(run_id, "a", instructions="Name one.")
        engine_of(chassis).owner.draining = False
        await judge.until(run_id, "a", REVIEWING, attempt=2)
        assert (await judge.case(run_id, "a")).revisions == 0
        assert "it names no source" in model.calls[-1].user
        assert "Name one." in model.calls[-1].user
