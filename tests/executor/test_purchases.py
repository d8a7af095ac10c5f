"""Calls that other services make for a node's attempt: they count in its costs once, whoever dies, and budgets bear them."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from chassis.service import Chassis
from chassis.testing.eventually import eventually
from chassis.testing.fake_behaviour import Behaviour
from chassis.testing.fake_openai import FakeOpenAI
from contracts.budgets import Payer, Purchase, ReserveSpend, SettleSpend, Took
from contracts.errors import Code
from contracts.executor import Usage
from contracts.plan import Strict
from contracts.review import BookReview, ListAttempts
from contracts.sidecar_requests import GetSidecar
from contracts.tool import ToolContext, ToolResult, UseTool
from tests.executor.conftest import World, agent, noop, refusal
from tests.executor.test_budgets import limit, money_of, priced, told
from tests.executor.test_tools import sidecars, the_node, uses

__all__ = ["priced"]

SEVEN = Took(usage=Usage(prompt_tokens=7, requests=1, cost_usd="0.07"), sidecar={"metadata": {"role": "embedder"}})
AT_MOST = Took(usage=Usage(prompt_tokens=9, requests=1, cost_usd="0.5", estimated_calls=1), sidecar={"errors": []})
QUICK = {"reconcile_s": 0.2}


class NoArguments(Strict): ...


class Buy(UseTool, owner="planner", tool="buy", description="Buy something."):
    arguments: NoArguments


class Shop:
    """Owns the tool. Clear `open`, and it holds what it has reserved."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.payer = Payer()

    async def build(self, chassis: Chassis) -> None:
        async def buy(request: Buy, context: Any) -> ToolResult:
            order = reservation(request.context, self.payer, command_id=request.command_id)
            id = (await chassis.bus.ask(order, context)).reservation
            await self.open.wait()
            assert id is not None
            for _ in range(2):
                await chassis.bus.ask(SettleSpend(reservation=id, amount_usd=Decimal("0.07"), took=SEVEN), context)
            return ToolResult(text="bought")

        chassis.bus.serve(Buy, buy)


def reservation(place: ToolContext, payer: Payer, **fields: Any) -> ReserveSpend:
    purchase = Purchase(context=place, at_most=AT_MOST)
    given = {"command_id": uuid4(), "amount_usd": Decimal("0.5"), "model": "openai/letters", "for_s": 60.0}
    return ReserveSpend(payer=payer, purchase=purchase, **(given | fields))


async def a_place(world: World, **fields: Any) -> ToolContext:
    """An attempt that has ended, and cost nothing itself."""
    run_id = await world.start(noop("a"), **fields)
    node = (await world.until(run_id)).nodes
    assert node
    return ToolContext(run_id=run_id, node_id=node[0].id, attempt=1, effect=1)


async def reserved(world: World, place: ToolContext, **fields: Any) -> UUID:
    id = (await world.ask(reservation(place, Payer(), **fields))).reservation
    assert id is not None, "also where no budget is in force"
    return id


async def settle(world: World, id: UUID, amount: str | None, took: Took | None) -> bool:
    usd = None if amount is None else Decimal(amount)
    return (await world.ask(SettleSpend(reservation=id, amount_usd=usd, took=took))).was_open


async def usage_of(world: World, place: ToolContext) -> list[Usage]:
    """Of the node, and of its attempt."""
    attempts = (await world.ask(ListAttempts(node_id=place.node_id))).items
    return [(await world.nodes(place.run_id))["a"].usage, attempts[0].usage]


@pytest.mark.parametrize("gate", ["off", "gate", "observe"])
async def test_what_a_tool_buys_is_in_the_costs_of_its_attempt_node_and_run(
    priced: FakeOpenAI, world: World, gate: str
) -> None:
    """The model's tokens cost a tenth of a cent each."""
    shop = Shop()
    priced.script(uses(("buy", {}), ("buy", {})), Behaviour(text="the answer"))
    async with (
        world.owner(shop.build),
        world.executor([Buy], **QUICK | {"review_deadline_s": 0.2, "review_overdue": "open"}),
    ):
        run_id = await world.start(agent("a"), gate=gate)
        summary = (await world.until(run_id)).summary
        node = await the_node(world, run_id)
        (attempt,) = (await world.ask(ListAttempts(node_id=node.id))).items
        latest = (await world.ask(GetSidecar(node_id=node.id))).document
    documents = await sidecars(world, run_id)
    assert sorted(d["at"] for d in documents) == [(1, 1), (1, 2), (1, 1001), (1, 1002)]
    assert latest["metadata"]["call"] == 2, "the attempt's own"
    own = Decimal(sum(d["usage"]["completion_tokens"] for d in documents if d["at"][1] < 3)) / 1000
    assert node.usage == attempt.usage
    assert Decimal(node.usage.cost_usd or 0) == own + Decimal("0.14")
    assert (node.usage.requests, summary.llm_request_count) == (4, 4)
    assert summary.cost_usd == node.usage.cost_usd
    names = ["completed"] if gate == "off" else ["completed", "reviewing"]
    facts = [await world.fact(run_id, f"executor.node.{name}") for name in names]
    assert [Usage.model_validate(fact["usage"]) for fact in facts] == [node.usage] * len(facts)
    assert (await world.fact(run_id, "executor.run.completed"))["cost_usd"] == summary.cost_usd


async def test_a_budget_that_begins_while_something_is_bought_bears_it_once(priced: FakeOpenAI, world: World) -> None:
    task, shop = uuid4(), Shop()
    shop.payer = Payer(task_id=task, agent_id="ada")
    shop.open.clear()
    priced.script(uses(("buy", {})), Behaviour(text="the answer"))
    async with world.owner(shop.build), world.executor([Buy], **QUICK):
        run_id = await world.start(agent("a", agent_id="ada"), task_id=task)
        await eventually(lambda: world.rows("select from reservations where purchase is not null"))
        assert (await limit(world, "task", str(task), 10)).reserved_usd == "0.5"
        shop.open.set()
        summary = (await world.until(run_id)).summary
        assert (await limit(world, "agent", "ada", 10)).spent_usd == summary.cost_usd

        async def both_agree() -> bool:
            wanted = (Decimal(summary.cost_usd or 0), 0)
            return await money_of(world, "task") == await money_of(world, "agent") == wanted

        await eventually(both_agree, what="the cost of the run in both budgets")


async def test_a_purchase_of_which_nobody_speaks_any_more_counts_once_with_the_most_it_can_have_cost(
    world: World,
) -> None:
    async with world.executor(**QUICK), world.executor(**QUICK):
        await limit(world, "company", "default", 10)
        place = await a_place(world)
        id = await reserved(world, place)
        await world.rows("update reservations set expires_at = clock_timestamp()")
        await eventually(lambda: _is_charged(world))
        assert await usage_of(world, place) == [AT_MOST.usage, AT_MOST.usage]
        assert not await settle(world, id, "0.07", SEVEN), "too late"
        assert await usage_of(world, place) == [AT_MOST.usage, AT_MOST.usage]
        assert [d["at"] for d in await sidecars(world, place.run_id)] == [(1, 1001)]


async def test_a_reservation_that_cannot_be_settled_keeps_no_other_from_it(world: World) -> None:
    """What a newer release has written down with it, this one may not understand."""
    async with world.executor(**QUICK):
        await limit(world, "company", "default", 10)
        for _ in range(2):
            await reserved(world, await a_place(world))
        await world.rows(
            """update reservations set expires_at = clock_timestamp(), purchase = case
               when id = (select id from reservations order by id limit 1) then '{"of": "tomorrow"}' else purchase end"""
        )
        await eventually(lambda: _has(world, "0.5", "0.5"))


async def _has(world: World, spent: str, reserved: str) -> bool:
    return await money_of(world) == (Decimal(spent), Decimal(reserved))


async def _is_charged(world: World) -> bool:
    return await money_of(world) == (Decimal("0.5"), 0)


@pytest.mark.parametrize(
    ("most", "amount", "usage"),
    [
        ("0", "0", Usage(prompt_tokens=7, requests=1)),
        (None, None, Usage(prompt_tokens=7, requests=1, cost_usd=None, unpriced_calls=1)),
    ],
    ids=["free", "no price"],
)
async def test_without_a_budget_tokens_count_as_well(
    live: World, most: str | None, amount: str | None, usage: Usage
) -> None:
    place = await a_place(live)
    id = await reserved(live, place, amount_usd=None if most is None else Decimal(most))
    assert await settle(live, id, amount, Took(usage=usage, sidecar={}))
    assert await usage_of(live, place) == [usage, usage]


async def test_a_purchase_that_was_not_made_leaves_nothing_in_the_books(live: World) -> None:
    place, late = await a_place(live), uuid4()
    assert await settle(live, await reserved(live, place), "0", None)
    assert not await settle(live, late, "0", None)
    refused = await refusal(live.ask(reservation(place, Payer(), command_id=late)))
    assert refused.failure.code is Code.ILLEGAL_STATE
    assert await usage_of(live, place) == [Usage(), Usage()]
    assert await sidecars(live, place.run_id) == []


async def test_a_refused_purchase_names_its_run_and_one_that_is_free_is_never_refused(live: World) -> None:
    await limit(live, "company", "default", 0)
    place = await a_place(live)
    assert (await refusal(reserved(live, place))).failure.code is Code.OVER_BUDGET
    (exhausted,) = await told(live, "budget.exhausted")
    assert (exhausted["run_id"], exhausted["node_id"]) == (str(place.run_id), str(place.node_id))
    await reserved(live, place, amount_usd=Decimal(0))


async def test_of_an_attempt_that_is_gone_only_the_budget_is_charged(live: World) -> None:
    await limit(live, "company", "default", 10)
    place = (await a_place(live)).model_copy(update={"attempt": 9})
    assert await settle(live, await reserved(live, place), "0.07", SEVEN)
    assert await money_of(live) == (Decimal("0.07"), 0)
    assert (await live.nodes(place.run_id))["a"].usage == Usage()


async def test_reviews_are_numbered_after_the_attempt_s_own_calls(live: World) -> None:
    place = await a_place(live)
    await settle(live, await reserved(live, place), "0.07", SEVEN)
    book = BookReview(command_id=uuid4(), node_id=place.node_id, attempt=1, usage=SEVEN.usage, sidecar={})
    assert (await live.ask(book)).call == 1
    assert (await live.nodes(place.run_id))["a"].usage.cost_usd == "0.14"
