"""Drafts cost money as well: they are reserved with the executor, which owns the budgets, and wait when there is none."""

from __future__ import annotations

from decimal import Decimal

import pytest

from chassis.service import Chassis
from chassis.testing.eventually import eventually
from chassis.testing.fake_openai import FakeOpenAI
from contracts.budgets import Scope, Shortage
from contracts.planner import PlanStatus, Task
from tests.planner.conftest import World
from tests.planner.test_drafting import answers, drafting, step

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
        await eventually(lambda: _has_a_plan(world, task), 30)


async def _why_it_waits(planner: Chassis) -> str:
    body = await planner.pool.fetchval("select body from outbox where subject like '%.plan.retried.%'")
    return body.decode() if body else ""


async def _has_a_plan(world: World, task: Task) -> bool:
    return (await world.now(task)).plan_id is not None and (await world.now(task)).status == "ready"
