"""What a run says of itself while it does not move."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from chassis.testing.eventually import eventually
from chassis.testing.fake_openai import FakeOpenAI
from contracts.errors import Code, Rejection
from contracts.executor import ControlRun, RunAction, RunStatus
from contracts.run_control import ExplainWaiting, GetRuntime, Waiting
from tests.executor.conftest import World, agent, noop
from tests.executor.test_ownership import engine_of
from tests.executor.test_steering import steer


async def waiting(world: World, run_id: UUID) -> list[Waiting]:
    return (await world.ask(ExplainWaiting(run_id=run_id))).items


async def reasons(world: World, run_id: UUID) -> dict[str | None, str]:
    return {item.key: str(item.reason) for item in await waiting(world, run_id)}


async def test_everything_that_waits_says_for_what(model: FakeOpenAI, world: World) -> None:
    async with world.executor(concurrency=1):
        run_id = await world.start(
            agent("a", say="until-released say:x"), agent("b", "a"), agent("c"), agent("p"), timeout_s=600
        )
        await model.until(lambda: len(model.calls) == 1)
        await steer(world, run_id, "p", "pause", by="Ada")
        expected = {"a": "running", "b": "dependency", "c": "slot", "p": "paused"}
        await eventually(lambda: _are(world, run_id, expected))
        found = {item.key: item for item in await waiting(world, run_id)}
        worker = (await world.rows("select id, lease_until from workers"))[0]
        assert found["a"].on == [str(worker["id"])]
        assert found["a"].until is not None
        assert found["p"].by == "Ada"
        await world.ask(ControlRun(command_id=uuid4(), run_id=run_id, action=RunAction.PAUSE, by="Bob"))
        await eventually(lambda: _are(world, run_id, expected | {None: "paused", "c": "paused"}))
        assert "by Bob" in (await waiting(world, run_id))[0].detail
        model.release()
        await world.until(run_id, RunStatus.PAUSED)
        assert await reasons(world, run_id) == {None: "paused", "b": "paused", "c": "paused", "p": "paused"}
        await world.order(run_id, "cancel")
        await world.until(run_id)
        assert await waiting(world, run_id) == []


async def test_a_run_that_nobody_takes_and_an_order_nobody_sees_are_said_so(world: World) -> None:
    async with world.executor() as chassis:
        engine_of(chassis).owner.draining = True
        run_id = await world.start(noop("a"))
        assert await reasons(world, run_id) == {None: "executor", "a": "executor"}
        await steer(world, run_id, "a", "skip", by="Ada")
        assert await reasons(world, run_id) == {None: "executor", "a": "order"}
        await world.order(run_id, "cancel")
        run, _ = await waiting(world, run_id)
        assert (run.reason, run.detail.split(" at ")[0]) == ("order", "cancel was ordered")
        engine_of(chassis).owner.draining = False
        await world.until(run_id)


async def test_what_stands_behind_a_failure_says_so(model: FakeOpenAI, live: World) -> None:
    run_id = await live.start(agent("bad", say="fail:400:9"), agent("after", "bad"), agent("slow", say="stall:1"))
    await eventually(lambda: _are(live, run_id, {"after": "failed_dependency", "slow": "running"}))
    await live.order(run_id, "cancel")
    await live.until(run_id)


async def test_the_runtime_says_who_executes_a_run_and_how_far_it_is(model: FakeOpenAI, live: World) -> None:
    run_id = await live.start(agent("a", say="fail:500:1 say:x"), agent("b", "a", say="until-released"))
    await model.until(lambda: len(model.calls) == 3)
    runtime = await live.ask(GetRuntime(run_id=run_id))
    worker = (await live.rows("select id, host from workers"))[0]
    assert (runtime.status, runtime.attempts) == (RunStatus.RUNNING, 3)
    assert (runtime.worker_id, runtime.worker_host) == (worker["id"], worker["host"])
    assert runtime.nodes_by_status == {"completed": 1, "running": 1}
    assert runtime.cost_usd is None
    assert runtime.lease_until is not None
    model.release()
    await live.until(run_id)
    runtime = await live.ask(GetRuntime(run_id=run_id))
    assert (runtime.worker_id, runtime.status, runtime.error) == (None, RunStatus.COMPLETED, None)


async def test_what_is_not_there_is_not_explained(live: World) -> None:
    run_id = await live.start(noop("a"))
    for request in (ExplainWaiting(run_id=uuid4()), GetRuntime(run_id=run_id, company="other")):
        with pytest.raises(Rejection) as refused:
            await live.ask(request)  # type: ignore[arg-type]
        assert refused.value.failure.code is Code.NOT_FOUND


async def _are(world: World, run_id: UUID, expected: dict[Any, str]) -> bool:
    found = await reasons(world, run_id)
    if found != expected:
        raise AssertionError(f"{found} instead of {expected}")
    return True
