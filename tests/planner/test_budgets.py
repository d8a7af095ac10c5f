"""Drafts cost money as well: they are reserved with the executor, which owns the budgets, and wait when there is none."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from chassis.service import Chassis
from chassis.testing.eventually import eventually
from chassis.testing.fake_behaviour import Behaviour
from chassis.testing.fake_openai import FakeOpenAI
from contracts.budgets import SettleSpend, Shortage
from contracts.errors import Code, Rejection, RetryLater
from contracts.planner import PlanStatus, Task
from contracts.scope import Scope
from contracts.task_control import TaskAction
from services.planner.handlers.drafting import ATTEMPTS
from tests.planner.conftest import World
from tests.planner.test_drafting import answers, drafting, jobs_are, step

PRICES = '{"fake-1": {"input": 1, "output": 2}}'
NOTHING_LEFT = Shortage(
    scope=Scope.PROJECT,
    scope_id="website",
    limit_usd="1",
    spent_usd="1",
    reserved_usd="0",
    need_usd="0.01",
    model="openai/fake-1",
)


@pytest.fixture
def priced(model: FakeOpenAI, monkeypatch: pytest.MonkeyPatch) -> FakeOpenAI:
    monkeypatch.setenv("LLM_PRICES", PRICES)
    return model


async def drafted(world: World, task: Task) -> PlanStatus | None:
    return (await world.ask(drafting(task))).status


async def test_a_draft_reserves_the_most_that_it_can_cost_and_settles_what_it_has_cost(
    world: World, priced: FakeOpenAI
) -> None:
    world.executor.has_budget = True
    priced.script(answers(step("a", "nowhere")), answers(step("a")))  # a repair is a call like another
    async with world.start_planner():
        task = await world.task()
        assert await drafted(world, task) is PlanStatus.READY
        await eventually(lambda: len(world.executor.settled) == 2)
    for reserved, settled in zip(world.executor.reserved, world.executor.settled, strict=True):
        assert (reserved.payer.project, reserved.payer.task_id) == ("default", task.id)
        assert settled.reservation == reserved.command_id
        assert reserved.amount_usd is not None
        assert settled.amount_usd is not None
        assert Decimal(0) < settled.amount_usd < reserved.amount_usd
        assert reserved.amount_usd >= Decimal(2 * 4096) / 1_000_000


async def test_a_draft_without_money_calls_no_model_says_so_and_goes_on_when_there_is_some(
    world: World, priced: FakeOpenAI
) -> None:
    world.executor.shortage = NOTHING_LEFT
    async with world.start_planner(draft_wait=0.5) as planner:
        task = await world.task()
        assert (await world.ask(drafting(task))).pending
        said = await eventually(lambda: _why_it_waits(planner))
        assert "project website" in said
        assert priced.calls == []
        world.executor.shortage = None
        await eventually(lambda: _has_a_plan(world, task))


async def _look_now(planner: Chassis) -> None:
    """Whatever waits is due."""
    await planner.pool.execute("update jobs set due_at = clock_timestamp() where state = 'queued'")


async def _has_waited(planner: Chassis, times: int) -> bool:
    waits = "select count(*) from jobs where state = 'queued' and waits >= $1"
    return bool(await planner.pool.fetchval(waits, times))


async def test_waiting_for_money_is_no_failed_attempt_however_often_a_draft_looks(
    world: World, priced: FakeOpenAI
) -> None:
    world.executor.shortage = NOTHING_LEFT
    async with world.start_planner(draft_wait=0.5) as planner:
        task = await world.task()
        assert (await world.ask(drafting(task))).pending
        await eventually(lambda: _has_waited(planner, 1))
        await planner.pool.execute("update jobs set attempt = $1", ATTEMPTS - 1)
        await _look_now(planner)
        await eventually(lambda: _has_waited(planner, 2))
        world.executor.shortage = None
        await _look_now(planner)
        await eventually(lambda: _has_a_plan(world, task))


async def test_the_round_that_was_paid_is_not_paid_again_when_the_repair_has_waited_for_money(
    world: World, priced: FakeOpenAI
) -> None:
    world.executor.has_budget, world.executor.grants, world.executor.shortage = True, 1, NOTHING_LEFT
    priced.script(answers(step("a", "nowhere")), answers(step("a")))
    async with world.start_planner(draft_wait=0.5) as planner:
        task = await world.task()
        assert (await world.ask(drafting(task))).pending
        await eventually(lambda: _has_waited(planner, 1))
    async with world.start_planner() as planner:
        world.executor.shortage = None
        await _look_now(planner)
        await eventually(lambda: _has_a_plan(world, task))
        assert len(priced.calls) == 2
        assert "'nowhere'" in priced.calls[1].user
        [drafted] = await planner.pool.fetch("select body from outbox where subject like '%.plan.drafted.%'")
        told = json.loads(drafted["body"])
        await eventually(lambda: len(world.executor.settled) == 2)
        assert Decimal(told["cost_usd"]) == sum(s.amount_usd or 0 for s in world.executor.settled) > 0
        assert (told["origin"], await planner.pool.fetchval("select count(*) from draft_calls")) == ("repaired", 0)


async def test_a_draft_that_fails_tells_what_its_earlier_attempts_have_cost_too(
    world: World, priced: FakeOpenAI
) -> None:
    world.executor.has_budget = True
    priced.script(Behaviour(drop_after=0), answers(step("a")))
    async with world.start_planner() as planner:
        task = await world.task()
        assert await drafted(world, task) is PlanStatus.READY
        [fact] = await planner.pool.fetch("select body from outbox where subject like '%.plan.drafted.%'")
        await eventually(lambda: len(world.executor.settled) == 2)
        settled = [s.amount_usd for s in world.executor.settled]
        assert settled[0] == world.executor.reserved[0].amount_usd
        assert Decimal(json.loads(fact["body"])["cost_usd"]) == sum(amount or 0 for amount in settled)


async def test_a_task_that_is_canceled_while_its_plan_waits_for_money_pays_for_none(
    world: World, priced: FakeOpenAI
) -> None:
    world.executor.shortage = NOTHING_LEFT
    async with world.start_planner(draft_wait=0.5) as planner:
        task = await world.task()
        assert (await world.ask(drafting(task))).pending
        await eventually(lambda: _has_waited(planner, 1))
        await world.control(task, TaskAction.CANCEL)
        world.executor.shortage = None
        await _look_now(planner)
        await eventually(jobs_are(planner, "failed"))
        assert priced.calls == []


@pytest.mark.parametrize("refusal", [RetryLater(0.1, "away"), Rejection(Code.INTERNAL, "a bug")], ids=["away", "bug"])
async def test_a_settlement_that_could_not_be_made_is_made_after_a_restart(
    world: World, priced: FakeOpenAI, refusal: Exception
) -> None:
    world.executor.has_budget, world.executor.refuses_to_settle = True, refusal
    priced.script(answers(step("a")))
    async with world.start_planner():
        task = await world.task()
        assert await drafted(world, task) is PlanStatus.READY
    world.executor.refuses_to_settle = None
    async with world.start_planner() as planner:
        await _look_now(planner)
        [settled] = await eventually(lambda: _settled(world))
        assert settled.reservation == world.executor.reserved[0].command_id
        assert Decimal(0) < (settled.amount_usd or 0) < (world.executor.reserved[0].amount_usd or 0)


async def _settled(world: World) -> list[SettleSpend]:
    return world.executor.settled


async def _why_it_waits(planner: Chassis) -> str:
    body = await planner.pool.fetchval("select body from outbox where subject like '%.plan.retried.%'")
    return body.decode() if body else ""


async def _has_a_plan(world: World, task: Task) -> bool:
    return (await world.now(task)).plan_id is not None and (await world.now(task)).status == "ready"
