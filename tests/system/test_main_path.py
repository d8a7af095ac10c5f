"""The main job by HTTP: a task becomes a plan, the plan becomes a run, and whoever watches sees every step."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from uuid import uuid4

from chassis.testing.fake_openai import Call
from tests.system.api import Api, Json, Watcher, levels
from tests.system.checks import the_watcher_saw_it_all
from tests.system.defaults import API_KEY
from tests.system.ledger import Ledger, Plan
from tests.system.world import World


async def test_a_title_becomes_a_finished_run_in_five_requests(api: Api, ledger: Ledger) -> None:
    task = await api.post("/tasks", {"title": f"Write a market study {uuid4()}"})
    assert task["status"] == "draft"
    drafted = await api.post(f"/tasks/{task['id']}/plan")
    assert drafted["status"] == "ready"
    assert drafted["graph"]["version"] == "1.0"
    steps = {node["id"] for node in drafted["graph"]["plan"]}
    assigned = await api.post(f"/plans/{drafted['plan_id']}/auto_assign", expect=200)
    assert {item["node_id"] for item in assigned["items"]} == steps
    assert {item["llm_model"] for item in assigned["items"]} == {"fake-1"}

    started = await api.post(f"/tasks/{task['id']}/start", expect=202)
    assert started["dry_run"] is False
    run = await api.ended(started["run_id"])
    assert {node["key"] for node in run["dag"]["nodes"]} == steps
    assert {node["status"] for node in run["dag"]["nodes"]} == {"completed"}

    await api.told_all(started["run_id"])
    told = await api.events()
    of_task = [e["level"] for e in told if e["task_id"] == task["id"] and e["level"].split("_")[0] in ("TASK", "PLAN")]
    assert of_task == ["TASK_CREATED", "PLAN_DRAFTED", "TASK_READY", "PLAN_ASSIGNED", "TASK_STARTED", "TASK_COMPLETED"]
    assert (await api.get(f"/tasks/{task['id']}"))["status"] == "completed"


async def test_the_predecessor_s_curl_runs_the_demo(world: World, api: Api) -> None:
    """Word for word from its README."""
    command = (
        'curl -sS -X POST -H "X-API-Key: $API_KEY" -H "Content-Type: application/json" '
        """-d '{"title":"Demo","task_spec":{"type":"demo"}}' $NEXT_PUBLIC_API_URL/tasks"""
    )
    environment = {"PATH": "/usr/bin:/bin", "API_KEY": API_KEY, "NEXT_PUBLIC_API_URL": world.url()}
    accepted = [json.loads(await said_by(command, environment)) for _ in range(2)]
    for one in accepted:
        told = {"status": "accepted", "location": f"/runs/{one['run_id']}"}
        assert one == {"run_id": one["run_id"], "task_id": one["task_id"]} | told
        assert (await api.ended(one["run_id"]))["title"] == "Demo"
    assert accepted[0]["run_id"] != accepted[1]["run_id"], "ad-hoc tasks may share a title"
    listed = await api.get("/runs", title_contains="demo", status="completed")
    assert {one["run_id"] for one in accepted} <= {run["id"] for run in listed["items"]}


async def test_events_and_stream_tell_each_step_once_and_in_order(world: World, api: Api) -> None:
    plan = Plan().node("brief").node("left", "brief").node("right", "brief").node("join", "left", "right")
    run_id = await api.launch("In order", plan.nodes)
    async with Watcher([world.url()], run_id) as watcher:
        told = await api.told_all(run_id)
        await the_watcher_saw_it_all(watcher, told)
    of_run = [level for level in levels(told) if level.startswith("RUN_")]
    assert of_run == ["RUN_QUEUED", "RUN_STARTED", "RUN_COMPLETED"]
    order = [(e["level"], json.loads(e["message"])["key"]) for e in told if e["level"].startswith("NODE_")]
    assert sorted(order) == sorted([(f"NODE_{what}", key) for key in plan.keys for what in ("STARTED", "COMPLETED")])
    for node in plan.nodes:
        assert order.index(("NODE_STARTED", node["id"])) < order.index(("NODE_COMPLETED", node["id"]))
        for dep in node["deps"]:
            assert order.index(("NODE_COMPLETED", dep)) < order.index(("NODE_STARTED", node["id"]))


async def test_outputs_tokens_and_cost_are_those_the_provider_gave(api: Api, ledger: Ledger) -> None:
    plan = Plan().node("a", say="alpha comes first").node("b", "a", say="beta comes second")
    run_id = await api.launch("What it cost", plan.nodes)
    told = await api.told_all(run_id)
    run = await api.run(run_id)
    calls = {key: calls[0] for key, calls in (await ledger.by_node(plan)).items()}
    assert "alpha comes first" in calls["b"].user, "a node works with the results of those it depends on"
    outputs = {}
    for node in run["dag"]["nodes"]:
        detail = await api.get(f"/nodes/{node['id']}")
        outputs[node["key"]] = detail["output"].strip()
        assert detail["usage"] == usage_of(calls[node["key"]], outputs[node["key"]])
    assert outputs == {"a": "alpha comes first", "b": "beta comes second"}

    summary = await api.get(f"/runs/{run_id}/summary")
    usages = [node["usage"] for node in run["dag"]["nodes"]]
    assert (summary["nodes_total"], summary["nodes_completed"], summary["nodes_failed"]) == (2, 2, 0)
    assert summary["llm_request_count"] == 2
    assert summary["llm_prompt_tokens"] == sum(u["prompt_tokens"] for u in usages)
    assert summary["llm_total_tokens"] == sum(u["prompt_tokens"] + u["completion_tokens"] for u in usages)
    assert Decimal(summary["cost_usd"]) == sum(Decimal(u["cost_usd"]) for u in usages) > 0
    assert summary["llm_avg_latency_ms"] <= summary["llm_p95_latency_ms"]
    assert summary["events_total"] >= len(told), "artifacts are told of after the end"


async def test_a_price_that_nobody_knows_is_unknown_and_not_zero(api: Api) -> None:
    run_id = await api.launch("Who knows", Plan().node("a").nodes, llm_model="nobody-sells-this")
    run = await api.ended(run_id)
    assert run["summary"]["cost_usd"] is None
    assert run["summary"]["llm_total_tokens"] > 0


async def test_a_dry_run_walks_the_plan_and_calls_no_model(api: Api, ledger: Ledger) -> None:
    plan = Plan.chain(3)
    run = await api.ended(await api.launch("Only looking", plan.nodes, dry_run=True))
    assert [n["status"] for n in run["dag"]["nodes"]] == ["completed"] * 3
    assert await ledger.calls(plan) == []


async def test_a_title_alone_can_be_planned_and_started_at_once(api: Api) -> None:
    accepted = await api.post("/tasks", {"title": f"All at once {uuid4()}", "auto_plan": True, "auto_start": True})
    assert accepted["status"] == "accepted"
    await api.ended(accepted["run_id"])


async def test_an_output_of_a_megabyte_comes_back_whole(api: Api, ledger: Ledger) -> None:
    words = "deliverable" * 100
    text = " ".join([words] * 1000)
    plan = Plan().node("large", words="repeat:1000", say=words).node("reader", "large")
    run_id = await api.launch("A long text", plan.nodes)
    await api.ended(run_id)
    node = (await api.nodes(run_id))["large"]
    assert (await api.get(f"/nodes/{node['id']}"))["output"] == text
    assert node["output_size"] == len(text)
    assert len(node["output_preview"]) <= 2000
    (call,) = await ledger.of_node(plan, "reader")
    assert "cut: the first" in call.user, "its successor is told that it sees a part"


async def said_by(command: str, environment: dict[str, str]) -> bytes:
    process = await asyncio.create_subprocess_shell(command, env=environment, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    assert process.returncode == 0
    return said


def usage_of(call: Call, output: str) -> Json:
    """As the provider counts, at a dollar per million prompt tokens and two per million of the answer."""
    prompt, answer = len(json.dumps(call.body["messages"])) // 4, len(output) // 4 + 1
    cost = Decimal(prompt) / 10**6 + Decimal(answer) * 2 / 10**6
    counted = {"prompt_tokens": prompt, "completion_tokens": answer, "requests": 1, "cost_usd": str(cost)}
    return counted | {"estimated_calls": 0, "unpriced_calls": 0}
