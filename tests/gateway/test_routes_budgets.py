"""Budgets over HTTP: set, listed and removed, under the caller's company and under each one's own path."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from contracts.budgets import Budget, BudgetGone, ListBudgets, RemoveBudget, SetBudget
from contracts.errors import Code, Rejection
from contracts.page import Page
from tests.gateway.builders import NOON, of_the_planner
from tests.gateway.conftest import StartGateway, StartOwner


def a_budget(scope: str = "company", id: str = "default", limit: str = "25") -> Budget:
    sums = {"limit_usd": limit, "spent_usd": "1.5", "reserved_usd": "0.25", "waiting_nodes": 2}
    about = {"exhausted_at": None, "set_by": "ada", "created_at": NOON, "updated_at": NOON}
    return Budget.model_validate({"scope": scope, "scope_id": id} | sums | about)


def removed(request: RemoveBudget) -> BudgetGone:
    if request.scope_id == "nobody":
        raise Rejection(Code.NOT_FOUND, "there is no budget of agent nobody")
    return BudgetGone(removed=a_budget(request.scope, request.scope_id))


ANSWERS: dict[type[Any], Any] = {
    ListBudgets: lambda _: Page(items=[a_budget()], total=1),
    SetBudget: lambda r: a_budget(r.scope, r.scope_id, str(r.limit_usd)),
    RemoveBudget: removed,
}


async def test_a_budget_is_set_listed_and_removed(start_gateway: StartGateway, start_owner: StartOwner) -> None:
    async with start_owner("executor", ANSWERS) as owner, start_gateway() as gateway:
        http = gateway.client
        answer = await http.put("/budgets/agent/ada%2Flovelace", json={"limit_usd": "0.30"}, headers={"X-Actor": "eve"})
        assert (answer.status_code, answer.json()["limit_usd"]) == (200, "0.30")
        order, _ = owner.asked[-1]
        assert (order.scope, order.scope_id, order.limit_usd) == ("agent", "ada/lovelace", Decimal("0.30"))
        assert order.by.startswith("eve, ")
        found = (await http.get("/budgets", params={"scope": "agent", "order_by": "-limit_usd"})).json()
        assert found["items"][0]["waiting_nodes"] == 2
        asked, _ = owner.asked[-1]
        assert (asked.scope, asked.order_by) == ("agent", "-limit_usd")
        assert (await http.delete("/budgets/agent/ada")).json()["removed"]["scope_id"] == "ada"
        assert (await http.delete("/budgets/agent/nobody")).status_code == 404


async def test_each_company_has_its_own_and_a_repeated_key_is_the_same_order(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    async with (
        start_owner("executor", ANSWERS) as owner,
        start_owner("planner", of_the_planner()),
        start_gateway() as gateway,
    ):
        once = {"Idempotency-Key": "raise"}
        for _ in range(2):
            await gateway.client.put("/companies/acme/budgets/company/acme", json={"limit_usd": 2}, headers=once)
        first, second = (request for request, _ in owner.asked[-2:])
        assert first.command_id == second.command_id
        assert first.company == "acme"


async def test_one_budget_is_shown_and_a_company_that_is_not_there_has_none(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    def found(request: ListBudgets) -> Page[Budget]:
        there = (request.company, request.scope, request.scope_id) == ("default", "agent", "ada/lovelace")
        return Page(items=[a_budget("agent", "ada/lovelace")] if there else [], total=int(there))

    answers = ANSWERS | {ListBudgets: found}
    async with (
        start_owner("executor", answers) as owner,
        start_owner("planner", of_the_planner()),
        start_gateway() as gateway,
    ):
        http = gateway.client
        assert (await http.get("/budgets/agent/ada%2Flovelace")).json()["scope_id"] == "ada/lovelace"
        none = await http.get("/budgets/agent/bob")
        assert (none.status_code, none.json()["detail"]) == (404, "there is no budget of agent bob")
        assert (await http.get("/companies/acme/budgets")).json()["items"] == []
        asked = len(owner.asked)
        assert (await http.get("/companies/nobody/budgets")).status_code == 404
        put = await http.put("/companies/nobody/budgets/company/nobody", json={"limit_usd": 2})
        assert (put.status_code, len(owner.asked)) == (404, asked + 1), "nothing is set"


async def test_what_is_no_limit_is_refused_with_its_field(start_gateway: StartGateway, start_owner: StartOwner) -> None:
    async with start_owner("executor", ANSWERS) as owner, start_gateway() as gateway:
        for wrong in (-1, "much", "0.0000001", "1e12", None, "Infinity"):
            answer = await gateway.client.put("/budgets/company/default", json={"limit_usd": wrong})
            assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["body", "limit_usd"]), wrong
        assert (await gateway.client.put("/budgets/world/all", json={"limit_usd": 1})).status_code == 422
        assert owner.asked == []
