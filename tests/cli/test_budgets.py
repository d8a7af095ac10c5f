"""Budgets on the command line: what is sent, and what people read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fluidcrew import budgets
from fluidcrew.render.facts import fact_line
from tests.cli.conftest import Cli
from tests.cli.fake_gateway import KEY, FakeGateway

NOON = "2025-03-01T12:00:00Z"


def a_budget(**more: Any) -> dict[str, Any]:
    sums = {"limit_usd": "2", "spent_usd": "1.5", "reserved_usd": "0.25", "waiting_nodes": 0, "exhausted_at": None}
    about = {"scope": "company", "scope_id": "default", "set_by": "ada", "created_at": NOON, "updated_at": NOON}
    return about | sums | more


@pytest.fixture
def api(gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> FakeGateway:
    monkeypatch.setenv("FLUIDCREW_URL", gateway.url)
    monkeypatch.setenv("COLUMNS", "100")
    return gateway


async def test_budgets_are_listed_with_what_is_left_and_who_waits(
    api: FakeGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    over = a_budget(scope="agent", scope_id="ada", limit_usd="1", waiting_nodes=3)
    api.on("GET /budgets", (200, {"items": [a_budget(), over], "total": 2}))
    await budgets.list_budgets(as_json=False)
    company, agent = (line for line in capsys.readouterr().out.splitlines() if line.startswith(("company", "agent")))
    assert company.split() == ["company", "default", "$2.00", "$1.50", "$0.2500", "$0.2500"]
    assert agent.split() == ["agent", "ada", "$1.00", "$1.50", "$0.2500", "$0", "3", "nodes", "waiting"]


async def test_without_a_budget_it_is_said_that_nothing_is_limited(
    api: FakeGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    api.on("GET /budgets", (200, {"items": [], "total": 0}))
    await budgets.list_budgets(as_json=False)
    assert "no budget is set" in capsys.readouterr().out


async def test_a_limit_is_set_and_removed_as_an_order_that_is_safe_to_repeat(api: FakeGateway, cli: Cli) -> None:
    api.on("PUT /companies/acme/budgets/agent/ada%20l", (503, {}), (200, a_budget(scope="agent", scope_id="ada l")))
    api.on("DELETE /budgets/agent/ada", (200, {"removed": a_budget()}))
    environ = {"FLUIDCREW_URL": api.url, "API_KEY": KEY}
    done = await cli("budget", "set", "agent", "ada l", "2", "--company", "acme", **environ)
    assert (done.code, done.out) == (0, "agent ada l: limit $2.00, $1.50 spent, $0.2500 left\n")
    first, again = api.requests("/companies/acme/budgets/agent/ada%20l")
    assert json.loads(first.body) == {"limit_usd": "2"}
    assert first.headers["idempotency-key"] == again.headers["idempotency-key"]
    done = await cli("budget", "rm", "agent", "ada", **environ)
    assert (done.code, done.out) == (0, "agent ada: no budget any more\n")


async def test_a_scope_that_does_not_exist_is_said_with_those_that_do(api: FakeGateway, cli: Cli) -> None:
    done = await cli("budget", "set", "world", "all", "2", FLUIDCREW_URL=api.url, API_KEY=KEY)
    assert done.code == 2
    assert "company" in done.err
    assert "agent" in done.err


def test_an_exhausted_budget_is_a_line_that_says_what_did_not_fit() -> None:
    told = a_budget(need_usd="0.5", model="openai/x", run_id="r", node_id="n")
    line = fact_line(None, "", "budget", "exhausted", "", told).plain
    assert "company default" in line
    assert "limit $2.00 · $1.50 spent · $0.2500 reserved · a call to openai/x may cost $0.5000" in line
