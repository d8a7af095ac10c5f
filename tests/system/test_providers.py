"""Providers that misbehave: the run waits, repeats or fails, as it should, and says in clear words why."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from chassis.testing.fake_behaviour import Behaviour
from tests.system.api import Api, levels
from tests.system.ledger import Ledger, Plan


async def outcome(api: Api, plan: Plan, status: str, **options: object) -> dict[str, str]:
    """What became of each node, with its error."""
    run = await api.ended(await api.launch(f"With a provider that {plan.name}", plan.nodes, **options), status)
    return {n["key"]: n["error"] or n["status"] for n in run["dag"]["nodes"]}


@pytest.mark.parametrize(
    ("words", "calls"),
    [
        ("fail:500:2", 3),
        ("fail:503:1 retry-after:1", 2),
        ("fail:429:2 retry-after:0.2", 3),
    ],
)
async def test_what_passes_is_waited_for(words: str, calls: int, api: Api, ledger: Ledger) -> None:
    plan = Plan().node("a", words=words).node("b", "a")
    assert await outcome(api, plan, "completed") == {"a": "completed", "b": "completed"}
    assert await ledger.counts(plan) == {"a": calls, "b": 1}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("fail:401:9", "401"),
        ("fail:404:9", "404"),
        ("malformed:body", "could not be read"),
        ("malformed:chunk", "could not be read"),
        ("drop:2", "connection"),
    ],
)
async def test_what_does_not_pass_fails_the_node_in_clear_words(
    words: str, says: str, api: Api, ledger: Ledger
) -> None:
    plan = Plan().node("a", words=words, say="a b c d e f", max_attempts=2).node("b", "a")
    found = await outcome(api, plan, "failed")
    assert says.lower() in found["a"].lower()
    assert "Traceback" not in found["a"]
    counts = await ledger.counts(plan)
    assert set(counts) == {"a"}, "what depends on a failed node does not start"
    assert counts["a"] <= 2


async def test_the_wait_that_a_provider_names_is_kept(api: Api, ledger: Ledger) -> None:
    plan = Plan().node("a", words="fail:429:3 retry-after:1")
    await outcome(api, plan, "completed", max_attempts=1)
    calls = await ledger.of_node(plan, "a")
    pauses = [after.at - before.at for before, after in pairwise(calls)]
    assert len(pauses) == 3, "being told to wait is no failed attempt"
    assert min(pauses) >= 1.0


async def test_a_storm_of_429_costs_no_node_its_life(api: Api, ledger: Ledger) -> None:
    plan = Plan()
    for n in range(8):
        plan.node(f"n{n}", words="fail:429:2 retry-after:0.3")
    found = await outcome(api, plan, "completed", max_attempts=1)
    assert set(found.values()) == {"completed"}
    assert set((await ledger.counts(plan)).values()) == {3}


async def test_a_provider_that_is_not_there_is_named_with_its_address(api: Api) -> None:
    plan = Plan().node("a", max_attempts=2)
    found = await outcome(api, plan, "failed", llm_backend="ollama")
    assert "ollama" in found["a"].lower()
    assert "127.0.0.1:9" in found["a"]


async def test_a_provider_without_a_key_says_which_variable_to_set(api: Api) -> None:
    found = await outcome(api, Plan().node("a"), "failed", llm_backend="anthropic")
    assert "ANTHROPIC_API_KEY" in found["a"]


async def test_retries_are_told(api: Api) -> None:
    plan = Plan().node("a", words="fail:500:1")
    run_id = await api.launch("Told", plan.nodes)
    await api.ended(run_id)
    told = levels(await api.told_all(run_id))
    steps = [level for level in told if level.startswith("NODE_")]
    assert steps == ["NODE_STARTED", "NODE_RETRIED", "NODE_STARTED", "NODE_COMPLETED"]
    assert (await api.nodes(run_id))["a"]["attempt"] == 2


@pytest.mark.parametrize("text", ["nul \0 byte", "lone \ud800 surrogate", "emoji 🦀 and combining e\u0301", ""])
async def test_what_a_model_says_is_kept_whatever_it_is(text: str, api: Api, ledger: Ledger) -> None:
    await ledger.script(*[Behaviour(text=text)] * 4)
    plan = Plan().node("a", max_attempts=2).node("b", "a")
    run_id = await api.launch("Odd words", plan.nodes, max_attempts=2)
    run = await api.ended(run_id, "completed" if text else "failed")
    if text:
        first = {n["key"]: n["id"] for n in run["dag"]["nodes"]}["a"]
        kept = (await api.get(f"/nodes/{first}"))["output"]
        assert kept == text.replace("\0", "").replace("\ud800", "\ufffd")


@pytest.mark.parametrize(
    ("misbehaviour", "holds"),
    [
        (Behaviour(raw_output='{"broken": '), lambda status, errors: status == 201 and not errors),
        (Behaviour(status=500), lambda status, errors: status == 201 and not errors),
    ],
    ids=["malformed", "500"],
)
async def test_the_supervisor_repairs_or_repeats_what_went_wrong_once(
    misbehaviour: Behaviour, holds: Callable[[int, list[str]], bool], api: Api, ledger: Ledger
) -> None:
    task = await api.post("/tasks", {"title": f"Plan me {Plan().name}"})
    await ledger.script(misbehaviour)
    answer = await api.http.post(f"/tasks/{task['id']}/plan")
    assert holds(answer.status_code, answer.json()["errors"]), answer.text


async def test_a_supervisor_that_is_not_there_is_named_with_its_address_and_what_to_do(api: Api) -> None:
    body = {"title": "t", "task_spec": {"description": "Do it"}, "options": {"llm_backend": "ollama"}}
    answer = await api.http.post("/tasks", json=body)
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["Retry-After"]) >= 1
    assert "127.0.0.1:9" in answer.json()["detail"]
    assert "OLLAMA_BASE_URL" in answer.json()["detail"]


async def test_a_supervisor_that_answers_rubbish_twice_leaves_an_invalid_plan_with_reasons(
    api: Api, ledger: Ledger
) -> None:
    task = await api.post("/tasks", {"title": f"Rubbish {Plan().name}"})
    await ledger.script(*[Behaviour(raw_output='{"broken": ')] * 2)
    drafted = await api.post(f"/tasks/{task['id']}/plan")
    assert drafted["status"] == "invalid"
    assert drafted["errors"]
    version = (await api.get(f"/plans/{drafted['plan_id']}/versions"))["items"][0]
    assert '{"broken": ' in version["answer"], "nothing is lost"
    refused = await api.http.post(f"/tasks/{task['id']}/start")
    assert refused.status_code == 409
    again = await api.post(f"/tasks/{task['id']}/plan")
    assert (again["status"], again["version"]) == ("ready", 2)
