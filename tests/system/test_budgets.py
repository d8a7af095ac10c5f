"""A budget as its people see it: over HTTP and on the command line, on the whole stack."""

from __future__ import annotations

import json
from decimal import Decimal
from uuid import uuid4

from chassis.testing.eventually import eventually
from tests.system.api import Api, answered
from tests.system.defaults import API_KEY
from tests.system.ledger import Ledger, Plan
from tests.system.typed import COMMAND, said_by
from tests.system.world import World


async def task_with(api: Api, plan: Plan) -> str:
    task = str((await api.post("/tasks", {"title": f"Budget {uuid4()}"}))["id"])
    await api.post("/plans", {"task_id": task, "graph": plan.nodes})
    return task


async def test_a_task_whose_money_has_run_out_waits_says_why_and_goes_on_when_its_limit_is_raised(
    world: World, api: Api, ledger: Ledger
) -> None:
    surroundings = {"FLUIDCREW_URL": world.url(), "API_KEY": API_KEY}
    plan = Plan().node("a").node("b", "a")
    task = await task_with(api, plan)
    set_to = answered(await api.http.put(f"/budgets/task/{task}", json={"limit_usd": "0.001"}), 200)
    assert (set_to["limit_usd"], set_to["spent_usd"], set_to["waiting_nodes"]) == ("0.001", "0", 0)
    run = str((await api.post(f"/tasks/{task}/start", expect=202))["run_id"])

    async def waits_for_money() -> bool:
        items = (await api.get(f"/runs/{run}/waiting"))["items"]
        return [(i["key"], i["reason"]) for i in items] == [("a", "budget"), ("b", "dependency")]

    await eventually(waits_for_money)
    assert await ledger.calls(plan) == []
    why = " ".join((await said_by(COMMAND, "why", run, COLUMNS="800", **surroundings)).split())
    assert f"the budget of task {task} does not allow it: of $0.001, $0 are spent" in why
    assert f"fluidcrew budget set task {task}" in why
    assert "1 node waiting" in await said_by(COMMAND, "budget", "ls", COLUMNS="200", **surroundings)

    said = await said_by(COMMAND, "budget", "set", "task", task, "0.5", **surroundings)
    assert "limit $0.5000" in said
    ended = await api.ended(run)
    budget = (await api.get("/budgets", scope="task", scope_id=task))["items"][0]
    assert budget["reserved_usd"] == "0"
    assert Decimal(budget["spent_usd"]) == Decimal(ended["summary"]["cost_usd"]) > 0
    exhausted = [e for e in await api.told_all(run) if e["level"] == "BUDGET_EXHAUSTED"]
    assert [json.loads(e["message"])["scope_id"] for e in exhausted] == [task]
    answered(await api.http.delete(f"/budgets/task/{task}"), 200)
    assert (await api.get("/budgets", scope="task", scope_id=task))["total"] == 0
