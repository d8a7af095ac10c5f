"""What must not be lost between budgets and calls: settlements that come early, and calls older than their budget."""

from __future__ import annotations

import asyncio
import signal
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from chassis.context import Context
from chassis.llm import spending as llm_spending
from chassis.testing.eventually import eventually
from chassis.testing.fake_openai import FakeOpenAI
from contracts.budgets import SettleSpend
from contracts.errors import Code, Rejection, RetryLater
from services.executor.spending import store
from services.executor.spending.till import Caller
from services.executor.spending.till import reserve as till_reserve
from tests.executor.conftest import World, agent, refusal
from tests.executor.test_budgets import ONE, QUICK, SCOPES, limit, money_of, priced, reserve, till_of
from tests.executor.test_ownership import a_process, engine_of, workers

__all__ = ["priced"]


async def test_a_settlement_that_overtakes_its_reservation_leaves_nothing_reserved(world: World) -> None:
    """Whoever is canceled while a reservation is on its way settles it at once, and may be there first."""
    async with world.executor() as chassis:
        till = till_of(chassis)
        caller = Caller(engine_of(chassis).lease.worker, uuid4(), uuid4(), 1)
        await limit(world, "company", "default", 10)
        late = uuid4()
        assert not await till.settle(late, Decimal(0))
        with pytest.raises(Rejection, match="settled before"):
            await till.reserve(late, "default", SCOPES[:1], ONE, Context(), caller)
        assert await money_of(world) == (0, 0)


async def test_a_settlement_waits_for_a_reservation_that_is_being_committed(world: World) -> None:
    async with world.executor() as chassis:
        await limit(world, "company", "default", 10)
        id = uuid4()
        async with chassis.pool.acquire() as connection:
            async with connection.transaction():
                await till_reserve(connection, id, "default", SCOPES[:1], ONE)
                settling = asyncio.create_task(till_of(chassis).settle(id, Decimal(0)))
                await eventually(lambda: _somebody_waits(world))
            assert await settling
        assert await money_of(world) == (0, 0)
        assert await world.rows("select from reservations") == []


async def _somebody_waits(world: World) -> bool:
    return bool(await world.rows("select from pg_locks where not granted and locktype = 'transactionid'"))


async def test_a_settlement_is_tried_until_it_is_done_whatever_stops_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llm_spending, "AGAIN_SECONDS", 0.01)
    refusals: list[Exception] = [Rejection(Code.INTERNAL, "a bug"), RuntimeError("another"), RetryLater(1.0)]

    async def settle() -> None:
        if refusals:
            raise refusals.pop(0)

    await llm_spending.Settlements().begin(settle)
    assert refusals == []


@pytest.mark.parametrize("before", [None, 100])
async def test_a_new_budget_holds_what_is_under_way_and_counts_what_it_comes_to(
    priced: FakeOpenAI, world: World, before: int | None
) -> None:
    """Whether its calls had been reserved in another budget, or there was none."""
    async with world.executor(**QUICK):
        if before is not None:
            await limit(world, "company", "default", before)
        task = uuid4()
        run_id = await world.start(agent("a", say="until-released say:x"), task_id=task)
        await priced.until(lambda: len(priced.calls) == 1)
        begun = await limit(world, "task", str(task), "0.5")
        assert (begun.spent_usd, begun.reserved_usd) == ("0", "1" if before else "0")
        assert begun.limit_usd == "0.5"
        priced.release()
        cost = (await world.until(run_id)).summary.cost_usd
        assert cost is not None

        async def counted() -> bool:
            return await money_of(world, "task") == (Decimal(cost), 0)

        await eventually(counted)
        if before is not None:
            assert (await money_of(world))[0] == Decimal(cost)
        assert await world.rows("select from reservations") == []


async def test_a_new_budget_holds_calls_of_other_services_that_are_under_way(live: World) -> None:
    await limit(live, "company", "default", 10)
    task = uuid4()
    reserved, other = await reserve(live, "4", task_id=task), await reserve(live, "1")
    begun = await limit(live, "task", str(task), 3)
    assert (begun.spent_usd, begun.reserved_usd) == ("0", "4")
    assert (await refusal(reserve(live, "0.01", task_id=task))).failure.code is Code.OVER_BUDGET
    for id in (reserved, other):
        await live.ask(SettleSpend(reservation=id, amount_usd=Decimal("0.5")))
    assert await money_of(live, "task") == (Decimal("0.5"), 0)
    assert await money_of(live) == (1, 0)


async def test_a_budget_that_begins_while_somebody_reserves_bears_that_call_as_well(world: World) -> None:
    """Whoever had looked for it in vain would reserve in the others only."""
    task = uuid4()
    async with world.executor() as chassis:
        await limit(world, "task", str(task), 10)
        async with chassis.pool.acquire() as busy, busy.transaction():
            await busy.execute("select from budgets for update")
            reserving = asyncio.create_task(reserve(world, "1", task_id=task))
            await eventually(lambda: _waiting(world, 1))
            beginning = asyncio.create_task(limit(world, "company", "default", 10))
            await eventually(lambda: beginning.done() or _waiting(world, 2))
        id, _ = await reserving, await asyncio.wait([beginning])
        await eventually(lambda: limit(world, "company", "default", 10))  # who waited too long is to ask again
        assert [await money_of(world, scope) for scope in ("company", "task")] == [(0, 1), (0, 1)]
        await world.ask(SettleSpend(reservation=id, amount_usd=Decimal("0.5")))
        assert [await money_of(world, scope) for scope in ("company", "task")] == [(Decimal("0.5"), 0)] * 2


async def test_a_budget_begins_before_or_after_a_reservation_and_not_between_its_steps(world: World) -> None:
    """Else who reserves would wait for it with a budget in hand, it for who settles, and who settles for that budget."""
    async with world.executor() as chassis:
        caller = Caller(engine_of(chassis).lease.worker, uuid4(), uuid4(), 1)
        await limit(world, "agent", "ada", 10)
        async with chassis.pool.acquire() as busy, busy.transaction():
            await busy.execute("select from budgets for update")
            reserving = asyncio.create_task(
                till_of(chassis).reserve(uuid4(), "default", SCOPES, ONE, Context(), caller)
            )
            await eventually(lambda: _waiting(world, 1))
            beginning = asyncio.create_task(limit(world, "company", "default", 10))
            await eventually(lambda: beginning.done() or _waiting(world, 2))
            is_between = beginning.done() and beginning.exception() is None
        await asyncio.wait([reserving, beginning])
        assert reserving.result()
        assert not is_between


async def _waiting(world: World, least: int) -> bool:
    return len(await world.rows("select from pg_locks where not granted")) >= least


async def test_a_budget_that_begins_before_an_attempt_reads_its_terms_is_charged_once(
    priced: FakeOpenAI, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    terms_of, asked, may_read = store.terms_of, asyncio.Event(), asyncio.Event()

    async def late(*given: Any) -> Any:
        asked.set()
        await may_read.wait()
        return await terms_of(*given)

    monkeypatch.setattr(store, "terms_of", late)
    async with world.executor(**QUICK):
        run_id = await world.start(agent("a", say="say:x"))
        await asked.wait()
        await limit(world, "company", "default", 10)
        may_read.set()
        cost = (await world.until(run_id)).summary.cost_usd
        await eventually(lambda: _nothing_is_reserved(world))
        assert await money_of(world) == (Decimal(cost or 0), 0)


async def test_a_call_that_is_cut_off_while_it_is_settled_costs_in_the_books_what_the_budget_was_charged(
    priced: FakeOpenAI, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llm_spending, "SETTLING_SECONDS", 60.0)
    async with world.executor(**QUICK) as chassis:
        await limit(world, "company", "default", 10)
        run_id = await world.start(agent("a", say="until-released say:x"))
        await priced.until(lambda: len(priced.calls) == 1)
        async with chassis.pool.acquire() as busy, busy.transaction():
            await busy.execute("select from budgets for update")
            priced.release()
            await eventually(lambda: _somebody_waits(world))
            await world.order(run_id, "cancel")
            await world.until(run_id)
        await eventually(lambda: _nothing_is_reserved(world))
        await eventually(lambda: world.rows("select from attempts where requests > 0"))
        cost = (await world.run(run_id)).summary.cost_usd
        assert await money_of(world) == (Decimal(cost or 0), 0)


async def _nothing_is_reserved(world: World) -> bool:
    return await world.rows("select from reservations") == []


async def test_an_attempt_lost_after_a_budget_began_is_charged_what_it_had_reserved(
    priced: FakeOpenAI, world: World
) -> None:
    async with a_process(world, **QUICK) as victim:
        await eventually(lambda: workers(world))
        await limit(world, "company", "default", 10)
        run_id = await world.start(agent("a", say="until-released say:x", agent_id="ada"))
        await priced.until(lambda: len(priced.calls) == 1)
        assert (await limit(world, "agent", "ada", 10)).reserved_usd == "1"
        victim.send_signal(signal.SIGKILL)
        await victim.wait()
        await world.end_leases()
        async with world.executor(**QUICK):
            await priced.until(lambda: len(priced.calls) == 2)
            priced.release()
            await world.until(run_id)

            async def both_agree() -> bool:
                spent, reserved = await money_of(world, "agent")
                return 1 < spent < Decimal("1.1") and reserved == 0 and await money_of(world) == (spent, 0)

            await eventually(both_agree)
