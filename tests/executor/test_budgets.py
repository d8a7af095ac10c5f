"""Budgets on real Postgres and with real calls: nothing is granted beyond a limit, and whoever waits for money goes on."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from chassis.context import Context
from chassis.llm import spending as llm_spending
from chassis.service import Chassis
from chassis.testing.eventually import eventually
from chassis.testing.fake_openai import FakeOpenAI
from contracts.budgets import Budget, ListBudgets, Payer, RemoveBudget, ReserveSpend, SetBudget, SettleSpend, Shortage
from contracts.errors import Code
from contracts.executor import NodeStatus, RunStatus
from contracts.run_control import ExplainWaiting, Waiting
from contracts.scope import Scope
from services.executor.domain.budget import Account
from services.executor.spending.purses import Attempt, Purses
from services.executor.spending.till import Call, Caller, Short, Till
from services.executor.spending.till import reserve as till_reserve
from tests.executor.conftest import World, agent, refusal
from tests.executor.test_ownership import _break_connections as break_connections
from tests.executor.test_ownership import a_process, engine_of, workers
from tests.executor.test_steering import steer

SCOPES = [(Scope.COMPANY, "default"), (Scope.PROJECT, "default"), (Scope.AGENT, "ada")]
ONE = Call(Decimal(1), "openai/fake-1", "", 60.0)
QUICK = {"reconcile_s": 0.2}


@pytest.fixture
async def priced(model: FakeOpenAI, monkeypatch: pytest.MonkeyPatch) -> FakeOpenAI:
    """A call may cost a dollar, and costs a tenth of a cent per token. Who has ended has settled."""
    monkeypatch.setattr(llm_spending, "SETTLING_SECONDS", 60.0)
    monkeypatch.setenv("LLM_PRICES", json.dumps({"fake-1": {"input": 0, "output": 1000}}))
    monkeypatch.setenv("LLM_MAX_OUTPUT_TOKENS", "1000")
    return model


async def limit(world: World, scope: str, id: str, usd: float | str) -> Budget:
    return await world.ask(SetBudget(command_id=uuid4(), scope=Scope(scope), scope_id=id, limit_usd=Decimal(str(usd))))


async def budgets(world: World) -> dict[str, Budget]:
    return {b.scope: b for b in (await world.ask(ListBudgets())).items}


async def money_of(world: World, scope: str = "company") -> tuple[Decimal, Decimal]:
    """Spent and reserved."""
    found = (await budgets(world))[scope]
    return Decimal(found.spent_usd), Decimal(found.reserved_usd)


async def is_paused(world: World, run_id: UUID, *keys: str) -> bool:
    nodes = await world.nodes(run_id)
    return all(nodes[key].pause_reasons == ["budget"] and nodes[key].status == NodeStatus.PAUSED for key in keys)


async def why(world: World, run_id: UUID, key: str) -> Waiting:
    items = (await world.ask(ExplainWaiting(run_id=run_id))).items
    return next(item for item in items if item.key == key)


async def told(world: World, kind: str) -> list[dict[str, Any]]:
    rows = await world.rows("select subject, body from outbox where subject like $1 order by sequence", f"%.{kind}.%")
    return [json.loads(row["body"]) for row in rows]


# the ceiling


def till_of(chassis: Chassis) -> Till:
    return Till(chassis.uow)


async def taken(till: Till, accounts: list[Account], caller: Caller, call: Call = ONE) -> UUID | None:
    id = uuid4()
    try:
        return id if await till.reserve(id, "default", accounts, call, Context(), caller) else None
    except Short:
        return None


@asynccontextmanager
async def watched(world: World) -> AsyncIterator[list[Any]]:
    """Looks at all budgets, all the time; what it finds over a limit is in the list."""
    over: list[Any] = []
    looks = 0
    done = asyncio.Event()

    async def look() -> None:
        nonlocal looks
        while not done.is_set():
            over.extend(await world.rows("select * from budgets where spent_usd + reserved_usd > limit_usd"))
            looks += 1

    task = asyncio.create_task(look())
    yield over
    done.set()
    await task
    assert looks > 5


async def test_of_two_hundred_at_once_exactly_those_get_money_for_whom_there_is_some(world: World) -> None:
    """F12: two executors, and in each round another one of the budgets is the narrow one."""
    async with world.executor() as one, world.executor() as two, watched(world) as over:
        tills = [till_of(one), till_of(two)]
        caller = Caller(engine_of(one).lease.worker, uuid4(), uuid4(), 1)
        for narrow in SCOPES:
            for scope, id in SCOPES:
                await limit(world, scope, id, 50 if (scope, id) == narrow else 500)
            found = await asyncio.gather(*(taken(tills[n % 2], SCOPES, caller) for n in range(200)))
            granted = [id for id in found if id]
            assert len(granted) == 50
            assert {await money_of(world, scope) for scope, _ in SCOPES} == {(Decimal(0), Decimal(50))}
            await asyncio.gather(*(tills[n % 2].settle(id, Decimal(0)) for n, id in enumerate(granted)))
    assert over == []


async def test_the_database_refuses_an_overdraft_whoever_writes_it(live: World) -> None:
    await limit(live, "company", "default", 1)
    with pytest.raises(Exception, match="the budget of company default does not bear it"):
        await live.rows("update budgets set reserved_usd = 2")


async def test_a_limit_may_be_lowered_below_what_is_spent_and_nothing_more_is_granted(live: World) -> None:
    await limit(live, "company", "default", 10)
    reserved = await reserve(live, "4")
    await live.ask(SettleSpend(reservation=reserved, amount_usd=Decimal(3)))
    lowered = await limit(live, "company", "default", 2)
    assert (lowered.limit_usd, lowered.spent_usd) == ("2", "3")
    refused = await refusal(reserve(live, "0.01"))
    assert refused.failure.code is Code.OVER_BUDGET
    assert Shortage.model_validate(refused.failure.details).spent_usd == "3"


async def reserve(world: World, usd: str | None, **payer: Any) -> UUID:
    amount = Decimal(usd) if usd else None
    about = {"payer": Payer(**payer), "model": "openai/fake-1", "note": "set LLM_PRICES", "for_s": 60}
    answer = await world.ask(ReserveSpend(command_id=uuid4(), amount_usd=amount, **about))
    assert answer.reservation is not None
    return answer.reservation


# what other services do


async def test_a_settlement_counts_once_and_gives_back_what_was_not_needed(live: World) -> None:
    await limit(live, "company", "default", 1)
    reserved = await reserve(live, "0.9")
    assert await money_of(live) == (0, Decimal("0.9"))
    answers = [await live.ask(SettleSpend(reservation=reserved, amount_usd=Decimal("0.25"))) for _ in range(2)]
    assert [a.was_open for a in answers] == [True, False]
    assert await money_of(live) == (Decimal("0.25"), 0)


async def test_without_a_budget_there_is_nothing_to_settle_and_with_one_an_unknown_price_is_refused(
    live: World,
) -> None:
    about = {"payer": Payer(), "model": "openai/x", "note": "set LLM_PRICES", "for_s": 60}
    free = await live.ask(ReserveSpend(command_id=uuid4(), amount_usd=None, **about))
    assert free.reservation is None
    await limit(live, "project", "default", 100)
    refused = await refusal(reserve(live, None))
    assert refused.failure.code is Code.OVER_BUDGET
    assert "set LLM_PRICES" in refused.failure.message


async def test_a_reservation_that_nobody_settles_is_charged_in_full_when_its_time_is_over(world: World) -> None:
    async with world.executor(**QUICK):
        await limit(world, "company", "default", 1)
        about = {"payer": Payer(), "model": "m", "for_s": 0.3}
        await world.ask(ReserveSpend(command_id=uuid4(), amount_usd=Decimal("0.4"), **about))

        async def charged() -> bool:
            return await money_of(world) == (Decimal("0.4"), 0)

        await eventually(charged)


async def test_a_budget_that_could_never_be_spent_from_is_refused_with_the_reason(live: World) -> None:
    for scope, id in (("company", "acme"), ("task", "not a uuid")):
        assert (await refusal(limit(live, scope, id, 1))).failure.code is Code.INVALID
    gone = RemoveBudget(command_id=uuid4(), scope=Scope.AGENT, scope_id="nobody")
    assert (await refusal(live.ask(gone))).failure.code is Code.NOT_FOUND


# nodes


async def test_a_node_without_money_waits_says_why_and_goes_on_by_itself_when_the_limit_is_raised(
    priced: FakeOpenAI, live: World
) -> None:
    await limit(live, "company", "default", "1.5")
    task = uuid4()
    await limit(live, "task", str(task), "0.5")
    run_id = await live.start(agent("a", say="say:done"), agent("b", "a"), task_id=task)
    await eventually(lambda: is_paused(live, run_id, "a"))
    assert priced.calls == []
    item = await why(live, run_id, "a")
    assert (item.reason, item.on) == ("budget", [f"task/{task}"])
    for part in ("of $0.5", "$0 are spent", "up to $1", "openai/fake-1"):
        assert part in item.detail
    assert f"fluidcrew budget set task {task}" in item.release
    assert (await live.run(run_id)).run.status is RunStatus.RUNNING

    await limit(live, "task", str(task), 3)
    assert (await live.until(run_id)).run.status is RunStatus.COMPLETED
    held = await live.rows("select sum(failures + losses + waits)::int as held from nodes where run_id = $1", run_id)
    assert held[0]["held"] == 0
    spent, reserved = await money_of(live)
    assert reserved == 0
    assert 0 < spent < Decimal("0.2")
    cost = (await live.run(run_id)).summary.cost_usd
    assert cost is not None
    assert Decimal(cost) == spent
    assert await live.rows("select from budget_waits") == []


async def test_exhaustion_is_told_once_for_each_limit_and_is_on_the_story_of_the_run(
    priced: FakeOpenAI, live: World
) -> None:
    await limit(live, "company", "default", "0.5")
    keys = [f"n{i}" for i in range(8)]
    run_id = await live.start(*(agent(key) for key in keys))
    await eventually(lambda: is_paused(live, run_id, *keys))
    [exhausted] = await told(live, "budget.exhausted")
    assert exhausted["run_id"] == str(run_id)
    assert exhausted["need_usd"] == "1"
    assert (await live.facts(run_id)).count("node.paused") == 8
    await limit(live, "company", "default", "0.6")
    await asyncio.gather(*(refusal(reserve(live, "1")) for _ in range(3)))
    assert len(await told(live, "budget.exhausted")) == 2
    assert len(await told(live, "budget.set")) == 2
    await live.order(run_id, "cancel")
    await live.until(run_id)


async def test_a_limit_that_was_raised_before_the_refusal_could_be_told_is_not_called_exhausted(world: World) -> None:
    async with world.executor() as chassis:
        till, account = till_of(chassis), SCOPES[0]
        await limit(world, *account, 1)
        with pytest.raises(Short) as short:
            async with chassis.pool.acquire() as connection, connection.transaction():
                await till_reserve(connection, uuid4(), "default", [account], ONE._replace(amount=Decimal(2)))
        await limit(world, *account, 2)
        await till.tell("default", short.value, Context())
        assert await told(world, "budget.exhausted") == []
        assert (await budgets(world))["company"].exhausted_at is None


async def test_room_that_calls_give_back_is_used_by_those_who_wait(priced: FakeOpenAI, world: World) -> None:
    async with world.executor(concurrency=8), world.executor(concurrency=8), watched(world) as over:
        await limit(world, "company", "default", 3)
        run_id = await world.start(*(agent(f"n{i}", say="slow:0.05 say:x") for i in range(16)))
        assert (await world.until(run_id)).run.status is RunStatus.COMPLETED
        assert len(priced.calls) == 16
        spent, reserved = await money_of(world)
        assert (0 < spent < 1, reserved) == (True, 0)
    assert over == []


async def test_the_end_of_a_budget_lets_everybody_go_on(priced: FakeOpenAI, live: World) -> None:
    await limit(live, "agent", "ada", 0)
    run_id = await live.start(agent("a", say="say:x", agent_id="ada"), agent("b", say="say:y"))
    await eventually(lambda: is_paused(live, run_id, "a"))
    assert (await live.nodes(run_id))["b"].status is not NodeStatus.PAUSED
    await live.ask(RemoveBudget(command_id=uuid4(), scope=Scope.AGENT, scope_id="ada"))
    assert (await live.until(run_id)).run.status is RunStatus.COMPLETED


async def test_an_unknown_price_under_a_budget_waits_and_is_looked_at_again_when_the_limit_is_set(
    model: FakeOpenAI, live: World
) -> None:
    await limit(live, "company", "default", 1000)
    run_id = await live.start(agent("a", say="say:x"))
    await eventually(lambda: is_paused(live, run_id, "a"))
    item = await why(live, run_id, "a")
    assert "LLM_PRICES" in item.detail
    assert model.calls == []
    await limit(live, "company", "default", 2000)

    async def tried_again() -> bool:
        return (await live.nodes(run_id))["a"].attempt == 2 and await is_paused(live, run_id, "a")

    await eventually(tried_again)
    await live.ask(RemoveBudget(command_id=uuid4(), scope=Scope.COMPANY, scope_id="default"))
    assert (await live.until(run_id)).run.status is RunStatus.COMPLETED


async def test_a_node_that_is_paused_by_a_person_as_well_goes_on_when_both_have_let_go(
    priced: FakeOpenAI, live: World
) -> None:
    await limit(live, "company", "default", 0)
    run_id = await live.start(agent("a", say="say:x"))
    await eventually(lambda: is_paused(live, run_id, "a"))
    await steer(live, run_id, "a", "pause")
    await eventually(lambda: _reasons(live, run_id, "budget", "control"))
    await limit(live, "company", "default", 5)
    await eventually(lambda: _reasons(live, run_id, "control"))
    await steer(live, run_id, "a", "resume")
    assert (await live.until(run_id)).run.status is RunStatus.COMPLETED


async def _reasons(world: World, run_id: UUID, *reasons: str) -> bool:
    return (await world.nodes(run_id))["a"].pause_reasons == list(reasons)


async def test_a_node_that_is_skipped_or_canceled_waits_for_no_money_any_more(priced: FakeOpenAI, world: World) -> None:
    async with world.executor(**QUICK):
        await limit(world, "company", "default", 0)
        run_id = await world.start(agent("a"), agent("b"))
        await eventually(lambda: is_paused(world, run_id, "a", "b"))
        await steer(world, run_id, "a", "skip")
        await world.order(run_id, "cancel")
        await world.until(run_id)
        await eventually(lambda: _nobody_waits(world))
        assert (await budgets(world))["company"].waiting_nodes == 0


async def _nobody_waits(world: World) -> bool:
    return not await world.rows("select from budget_waits")


async def test_a_call_that_is_cut_off_is_charged_in_full_and_one_that_was_refused_not_at_all(
    priced: FakeOpenAI, live: World
) -> None:
    await limit(live, "company", "default", 10)
    run_id = await live.start(agent("a", say="fail:400:1"))
    assert (await live.until(run_id)).run.status is RunStatus.FAILED
    assert await money_of(live) == (0, 0)
    run_id = await live.start(agent("a", say="stall:1"))
    await eventually(lambda: any(call.tokens for call in priced.calls))
    assert await money_of(live) == (0, 1)
    await live.order(run_id, "cancel")

    async def charged() -> bool:
        return await money_of(live) == (1, 0)

    await eventually(charged)

    async def agrees() -> bool:
        told = (await live.run(run_id)).summary
        return (told.cost_usd, told.estimated_calls, told.unpriced_calls) == ("1", 1, 0)

    await eventually(agrees, what="the run says what its budget says")


async def test_what_a_killed_executor_had_reserved_is_charged_in_full_and_once(
    priced: FakeOpenAI, world: World
) -> None:
    async with a_process(world, **QUICK) as victim:
        await eventually(lambda: workers(world))
        await limit(world, "company", "default", 10)
        run_id = await world.start(agent("a", say="until-released say:x"))
        await priced.until(lambda: len(priced.calls) == 1)
        assert await money_of(world) == (0, 1)
        victim.send_signal(signal.SIGKILL)
        await victim.wait()
        await world.end_leases()
        async with world.executor(**QUICK), world.executor(**QUICK):
            await priced.until(lambda: len(priced.calls) == 2)
            await eventually(lambda: _has_spent(world, Decimal(1)))
            priced.release()
            assert (await world.until(run_id)).run.status is RunStatus.COMPLETED
            spent, reserved = await money_of(world)
            assert (1 < spent < Decimal("1.1"), reserved) == (True, 0)


async def _has_spent(world: World, usd: Decimal) -> bool:
    return (await money_of(world))[0] == usd


async def test_a_database_that_breaks_every_connection_fails_no_node_and_leaves_nothing_reserved(
    priced: FakeOpenAI, world: World
) -> None:
    async with world.executor():
        await limit(world, "company", "default", 100)
        keys = [f"n{i}" for i in range(20)]
        run_id = await world.start(*(agent(key, say="slow:0.05 say:x", max_attempts=1) for key in keys))
        for calls in (3, 8, 13):
            await priced.until(lambda n=calls: len(priced.calls) >= n)
            await break_connections(world)
        assert (await world.until(run_id)).run.status is RunStatus.COMPLETED
        await eventually(lambda: _nothing_is_reserved(world))


async def _nothing_is_reserved(world: World) -> bool:
    return (await money_of(world))[1] == 0 and not await world.rows("select from reservations where settled_at is null")


async def test_who_has_no_budget_has_no_purse_and_reserves_nothing(priced: FakeOpenAI, world: World) -> None:
    async with world.executor() as chassis:
        purses = Purses(till_of(chassis), lambda: engine_of(chassis).lease.worker)
        assert purses.of(Attempt("default", [], uuid4(), uuid4(), 1, Context())) is None
        await limit(world, "agent", "ada", 0)
        run_id = await world.start(agent("a", say="say:x", agent_id="bob"))
        assert (await world.until(run_id)).run.status is RunStatus.COMPLETED


async def test_a_new_budget_begins_with_what_was_spent_before(priced: FakeOpenAI, live: World) -> None:
    task = uuid4()
    run_id = await live.start(agent("a", say="say:x", agent_id="ada"), task_id=task)
    cost = (await live.until(run_id)).summary.cost_usd
    for scope, id in (("company", "default"), ("project", "default"), ("task", str(task)), ("agent", "ada")):
        assert (await limit(live, scope, id, 1)).spent_usd == cost
    assert (await limit(live, "agent", "bob", 1)).spent_usd == "0"
