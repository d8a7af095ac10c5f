"""Orders and verdicts that cannot be carried out: they are set aside with the reason, and hold up nothing behind them."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from chassis.context import Context
from chassis.service import Chassis
from chassis.testing.eventually import eventually
from chassis.testing.fake_openai import FakeOpenAI
from contracts.executor import ControlRun, NodeStatus, RunAction, RunStatus, Wanted
from contracts.run_control import ExplainWaiting
from contracts.story import DeadLetter
from services.executor.steering import store
from tests.executor.conftest import ENDED, World, agent
from tests.executor.test_refusals import cure, refuse
from tests.executor.verdicts import judging, noted


async def left(world: World, run_id: UUID, kind: str, payload: dict[str, Any]) -> None:
    """As a release that knows more than this one would leave it."""
    await world.rows(
        """with given as (insert into signals (run_id, kind, payload) values ($1, $2, $3::text::jsonb))
           update runs set wake_at = clock_timestamp() where id = $1""",
        run_id, kind, json.dumps(payload),
    )  # fmt: skip


async def letters(chassis: Chassis) -> list[DeadLetter]:
    return (await chassis.dead_letters.list(10, 0)).items


async def test_an_order_that_cannot_be_read_is_set_aside_and_the_one_behind_it_carried_out(
    world: World, model: FakeOpenAI
) -> None:
    async with world.executor() as chassis:
        run_id = await world.start(agent("a", say="until-released"), agent("b", "a"))
        await model.until(lambda: len(model.calls) == 1)
        await left(world, run_id, "node_skip", {"key": "nonsense", "by": "Ada"})
        await world.order(run_id, "pause")
        await eventually(lambda: one_is_buried(chassis))
        [letter] = await letters(chassis)
        assert (letter.durable, letter.attempts) == ("executor-orders", 3)
        assert "nonsense" in letter.reason
        told = await world.fact(run_id, "executor.run.order_dropped")
        assert (told["order"], told["key"], told["by"]) == ("node_skip", "nonsense", "Ada")
        waiting = (await world.ask(ExplainWaiting(run_id=run_id))).items
        [item] = [item for item in waiting if "set aside" in item.detail]
        assert item.detail.startswith("skip of nonsense was ordered by Ada at ")
        assert f"fluidcrew dlq replay {letter.id}" in item.release
        model.release()
        await world.until(run_id, RunStatus.PAUSED)
        await world.order(run_id, "resume")
        assert (await world.until(run_id)).run.status is RunStatus.COMPLETED


async def one_is_buried(chassis: Chassis) -> bool:
    return len(await letters(chassis)) == 1


async def test_of_many_verdicts_only_the_one_that_cannot_be_read_is_set_aside(world: World, model: FakeOpenAI) -> None:
    keys = ["a", "b", "c", "d"]
    async with world.executor() as chassis, judging(world) as judge:
        run_id = await world.start(*[agent(key) for key in keys], gate="observe")
        await world.until(run_id, RunStatus.COMPLETED)
        async with chassis.pool.acquire() as connection, connection.transaction():
            for key in ("a", "b"):
                await store.leave(connection, run_id, noted(key))
            await connection.execute(
                "insert into signals (run_id, kind, payload) values ($1, 'verdict', $2)",
                run_id,
                {"key": "a", "verdict": {}},
            )
            for key in ("c", "d"):
                await store.leave(connection, run_id, noted(key))
        await chassis.bus.ring("run", str(run_id).encode())
        await eventually(lambda: one_is_buried(chassis))

        async def all_heard() -> bool:
            return all(node.verdict is not None for node in (await world.nodes(run_id)).values())

        await eventually(all_heard)
        await judge.until(run_id, "a", NodeStatus.COMPLETED)
        assert await world.rows("select from runs where id = $1 and not reopening", run_id)


async def test_an_order_that_the_database_refuses_is_wanted_no_more_and_can_be_given_again_from_its_dead_letter(
    world: World, model: FakeOpenAI
) -> None:
    await refuse(world, "paused")
    async with world.executor() as chassis:
        run_id = await world.start(
            agent("a", say="until-released"), agent("b", "a", say="until-released"), title="poison"
        )
        await model.until(lambda: len(model.calls) == 1)
        await world.ask(ControlRun(command_id=uuid4(), run_id=run_id, action=RunAction.PAUSE, mode="interrupt"))
        await eventually(lambda: one_is_buried(chassis))
        await eventually(lambda: wants_nothing(world, run_id))
        await world.until(run_id, RunStatus.RUNNING)
        await cure(world, run_id)
        [letter] = await letters(chassis)
        for _ in range(2):
            await chassis.dead_letters.replay(letter.id, Context(request_id="again"))
        found = await world.until(run_id, RunStatus.PAUSED, *ENDED)
        assert (found.run.status, found.run.control and found.run.control.wanted) == (RunStatus.PAUSED, Wanted.PAUSE)
        assert not [i for i in (await world.ask(ExplainWaiting(run_id=run_id))).items if "set aside" in i.detail]


async def wants_nothing(world: World, run_id: UUID) -> bool:
    return (await world.run(run_id)).run.control is None


async def test_a_run_that_cannot_be_moved_at_all_rests_when_its_orders_are_set_aside(
    world: World, model: FakeOpenAI
) -> None:
    await refuse(world, "running")
    async with world.executor() as chassis:
        run_id = await world.start(agent("a"), title="poison")
        await left(world, run_id, "node_skip", {"key": "nonsense"})
        await eventually(lambda: one_is_buried(chassis))
        await eventually(lambda: rests(world, run_id))


async def rests(world: World, run_id: UUID) -> bool:
    found = "select from runs where id = $1 and owner is null and wake_at > clock_timestamp() + interval '10 s'"
    return bool(await world.rows(found, run_id))


async def test_an_order_is_blamed_also_when_the_database_goes_just_then(
    world: World, model: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    trouble: list[Exception] = [ConnectionResetError("it was restarted"), asyncpg.CannotConnectNowError("it starts up")]
    blame = store.blame

    async def not_at_first(*given: Any) -> Any:
        if trouble:
            raise trouble.pop()
        return await blame(*given)

    monkeypatch.setattr(store, "blame", not_at_first)
    async with world.executor() as chassis:
        run_id = await world.start(agent("a", say="until-released"))
        await left(world, run_id, "node_skip", {"key": "nonsense"})
        await eventually(lambda: one_is_buried(chassis))
        model.release()
        assert (await world.until(run_id)).run.status is RunStatus.COMPLETED
