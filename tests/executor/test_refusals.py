"""What the database refuses to store stops its own run and no other."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from chassis.service import Chassis
from chassis.testing.eventually import eventually
from chassis.testing.fake_openai import FakeOpenAI
from contracts.errors import Code
from contracts.executor import ControlMode, ControlRun, NodeStatus, RunAction, RunStatus
from contracts.review import ListAttempts
from services.executor.domain.control import WANTS
from services.executor.domain.facts import Asked
from services.executor.engine import store as turns
from services.executor.steering import store
from tests.executor.conftest import World, agent, noop, refusal
from tests.executor.test_at_once import waits_for_a_lock
from tests.executor.test_ownership import engine_of
from tests.executor.verdicts import noted


async def refuse(world: World, status: str) -> None:
    """From now on the database takes no run with the title "poison" in this state."""
    await world.rows(f"alter table runs add constraint no_poison check (title <> 'poison' or status <> '{status}')")


async def set_aside(world: World, run_id: UUID) -> bool:
    found = "select owner is null and wake_at > clock_timestamp() + interval '10 s' as aside from runs where id = $1"
    return bool((await world.rows(found, run_id))[0]["aside"])


async def gave_its_order_up(world: World, run_id: UUID) -> bool:
    return "run.order_dropped" in await world.facts(run_id)


async def cure(world: World, run_id: UUID) -> None:
    await world.rows("alter table runs drop constraint no_poison")
    await world.rows("update runs set wake_at = clock_timestamp() where id = $1", run_id)


async def test_a_run_that_cannot_be_claimed_stops_nobody_else(world: World, model: FakeOpenAI) -> None:
    await refuse(world, "running")
    async with world.executor() as unmoved:
        engine_of(unmoved).owner.draining = True
        good = [await world.start(noop("a"), noop("b", "a")) for _ in range(3)]
        bad = await world.start(noop("a"), title="poison")
        good += [await world.start(agent("a", say="say:fine")) for _ in range(3)]
    async with world.executor():
        assert {detail.run.status for detail in await world.ended(good)} == {RunStatus.COMPLETED}
        await eventually(lambda: set_aside(world, bad))
        await cure(world, bad)
        assert (await world.until(bad)).run.status is RunStatus.COMPLETED


async def test_a_claim_that_is_refused_costs_nobody_the_result_that_came_with_it(
    world: World, model: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    await refuse(world, "running")
    async with world.executor(poll_s=60) as chassis:
        good = await world.start(agent("a", say="until-released"), agent("b", "a"))
        await model.until(lambda: len(model.calls) == 1)
        engine_of(chassis).owner.draining = True
        bad = await world.start(noop("a"), title="poison")
        engine_of(chassis).owner.draining = False
        engine_of(chassis).owner.wants_more = True  # so the turn with the result also claims
        model.release()
        detail = await world.until(good)
        assert {node.status for node in detail.nodes or []} == {NodeStatus.COMPLETED}
        assert len(await world.rows("select from attempts where run_id = $1", good)) == 2
        await eventually(lambda: set_aside(world, bad))


async def test_an_order_whose_outcome_is_refused_stops_nobody_else_nor_its_run(world: World, model: FakeOpenAI) -> None:
    await refuse(world, "paused")
    async with world.executor():
        good = await world.start(*[agent(f"n{i}", say="until-released") for i in range(3)], noop("z", "n0"))
        bad = await world.start(agent("a", say="stall:9"), title="poison")
        await model.until(lambda: len(model.calls) == 4)
        await world.ask(ControlRun(command_id=uuid4(), run_id=bad, action=RunAction.PAUSE, mode="interrupt"))
        await world.order(good, "pause")
        await eventually(lambda: gave_its_order_up(world, bad))
        model.release()
        await world.until(good, RunStatus.PAUSED)
        await world.order(good, "resume")
        assert (await world.until(good)).run.status is RunStatus.COMPLETED


async def test_a_run_that_cannot_be_stored_is_set_aside_also_when_the_database_goes_just_then(
    world: World, model: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    await refuse(world, "running")
    trouble = [ConnectionResetError("it was restarted"), asyncpg.CannotConnectNowError("it is starting up")]
    set_it_aside = turns.set_aside

    async def not_at_first(*given: Any) -> Any:
        if trouble:
            raise trouble.pop()
        return await set_it_aside(*given)

    monkeypatch.setattr(turns, "set_aside", not_at_first)
    async with world.executor():
        bad = await world.start(noop("a"), title="poison")
        await eventually(lambda: set_aside(world, bad))
        good = await world.start(noop("a"))
        assert (await world.until(good)).run.status is RunStatus.COMPLETED


# results that cannot be stored


@pytest.mark.parametrize("place", ["nodes", "attempts"])
async def test_what_a_result_took_is_booked_and_shown_although_it_cannot_be_stored(
    world: World, model: FakeOpenAI, place: str
) -> None:
    await world.rows(f"alter table {place} add constraint no_poison check (model is null or {REFUSED[place]})")
    async with world.executor():
        run_id = await world.start(agent("a", say="say:poison"))
        await world.until(run_id, RunStatus.FAILED)
        node = (await world.nodes(run_id))["a"]
        assert "could not be stored" in (node.error or "")
        assert node.usage.requests == 1
        assert node.usage.prompt_tokens > 0
        [attempt] = (await world.ask(ListAttempts(node_id=node.id))).items
        assert (attempt.status, attempt.usage) == ("failed", node.usage)
        assert attempt.duration_ms is not None


#: a column that only the result has, and one that every account of the attempt has
REFUSED = {"nodes": "output not like '%poison%'", "attempts": "model not like 'fake%'"}


async def test_a_result_whose_sidecar_cannot_be_stored_counts_all_the_same(world: World, model: FakeOpenAI) -> None:
    await world.rows("alter table sidecars add constraint refused check (document::text not like '%poison%')")
    async with world.executor():
        run_id = await world.start(agent("a", say="say:poison"))
        await world.until(run_id, RunStatus.COMPLETED)
        node = (await world.nodes(run_id))["a"]
        assert (node.output_preview, node.usage.requests) == ("poison", 1)
        [row] = await world.rows("select document from sidecars where run_id = $1", run_id)
        assert "could not be stored" in row["document"]


# orders that come in while the run ends


def deaf(chassis: Chassis, monkeypatch: pytest.MonkeyPatch) -> None:
    """The executor commits what its nodes bring, but hears of no order and claims nothing."""
    engine = engine_of(chassis)
    monkeypatch.setattr(engine._inbox, "orders_wait", lambda runs: None)
    engine.owner.draining = True


async def test_a_run_that_fails_with_an_order_to_go_on_still_holds_its_task(
    world: World, model: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = uuid4()
    async with world.executor() as chassis:
        nodes = [agent("a", say="fail:400:9"), agent("b", say="until-released fail:400:9")]
        run_id = await world.start(*nodes, task_id=task)
        await eventually(lambda: _is(world, run_id, "a", NodeStatus.FAILED))
        with monkeypatch.context() as patch:
            deaf(chassis, patch)
            await world.order(run_id, "skip_failed_and_resume")
            model.release()
            await world.until(run_id, RunStatus.FAILED)
            refused = (await refusal(world.start(noop("a"), task_id=task))).failure
            assert (refused.code, refused.details) == (Code.RUN_ACTIVE, {"run_id": str(run_id)})
        engine_of(chassis).owner.draining = False
        assert (await world.until(run_id, RunStatus.COMPLETED)).run.status is RunStatus.COMPLETED
        assert (await world.until(await world.start(noop("a"), task_id=task))).run.status is RunStatus.COMPLETED


async def _is(world: World, run_id: UUID, key: str, status: NodeStatus) -> bool:
    return (await world.nodes(run_id))[key].status is status


@pytest.mark.parametrize(("action", "goes_on"), [("pause", False), ("skip_failed_and_resume", True)])
async def test_an_order_that_commits_while_a_turn_waits_for_its_run_has_not_taken_effect(
    world: World, model: FakeOpenAI, monkeypatch: pytest.MonkeyPatch, action: str, goes_on: bool
) -> None:
    async with world.executor() as chassis:
        run_id = await world.start(agent("a", say="until-released"))
        await model.until(lambda: len(model.calls) == 1)
        with monkeypatch.context() as patch:
            deaf(chassis, patch)
            async with chassis.pool.acquire() as order, order.transaction():
                await order.execute("select from runs where id = $1 for update", run_id)
                model.release()
                await eventually(lambda: waits_for_a_lock(chassis))
                await _order(order, run_id, RunAction(action))
            await world.until(run_id, RunStatus.COMPLETED)
            assert await _control(world, run_id) == (None, goes_on)
        engine_of(chassis).owner.draining = False

        async def effective() -> bool:
            at, reopening = await _control(world, run_id)
            return at is not None and not reopening

        await eventually(effective)


async def test_a_verdict_that_commits_while_a_turn_waits_for_its_run_takes_the_task_from_nobody(
    world: World, model: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = uuid4()
    async with world.executor() as chassis:
        run_id = await world.start(agent("a"), agent("b", say="until-released"), gate="observe", task_id=task)
        await eventually(lambda: _is(world, run_id, "a", NodeStatus.COMPLETED))
        with monkeypatch.context() as patch:
            deaf(chassis, patch)
            async with chassis.pool.acquire() as verdict, verdict.transaction():
                await verdict.execute("select from runs where id = $1 for update", run_id)
                model.release()
                await eventually(lambda: waits_for_a_lock(chassis))
                await store.leave(verdict, run_id, noted("a"))
            await world.until(run_id, RunStatus.COMPLETED)
            other = await world.start(noop("a"), task_id=task)
        engine_of(chassis).owner.draining = False
        assert (await world.until(other)).run.status is RunStatus.COMPLETED


async def _order(connection: Any, run_id: UUID, action: RunAction) -> None:
    await store.leave(connection, run_id, Asked(action, ControlMode.FINISH))
    await store.note_wish(connection, run_id, WANTS[action], ControlMode.FINISH, None)


async def _control(world: World, run_id: UUID) -> tuple[Any, bool]:
    row = (await world.rows("select control_effective_at as at, reopening from runs where id = $1", run_id))[0]
    return row["at"], row["reopening"]
