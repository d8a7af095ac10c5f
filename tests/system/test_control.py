"""Pause, resume, cancel and skip: they take effect while models are at work, and stay."""

from __future__ import annotations

import json

from chassis.testing.eventually import eventually
from tests.system.api import Api, levels
from tests.system.ledger import Ledger, Plan, open_calls


async def became(api: Api, run_id: str, status: str) -> None:
    async def is_it() -> bool:
        return bool((await api.run(run_id))["status"] == status)

    await eventually(is_it, what=f"run {run_id} {status}")


async def test_cancelling_closes_the_model_s_http_request(api: Api, ledger: Ledger) -> None:
    plan = Plan().node("a", words="slow:60").node("b", words="pace:0.2", say="word " * 500).node("c", "a", "b")
    run_id = await api.launch("To be canceled", plan.nodes)
    await ledger.until(plan, lambda calls: len(open_calls(calls)) == 2 and any(c.tokens for c in calls))
    answer = await api.control(run_id, "cancel")
    assert answer["status"] == "canceled"
    assert answer["wanted"] == "cancel"
    calls = await ledger.until(plan, lambda calls: not open_calls(calls), timeout=50)
    assert {call.outcome for call in calls} == {"disconnected"}

    run = await api.ended(run_id, "canceled")
    assert {node["status"] for node in run["dag"]["nodes"]} == {"canceled"}
    task = await api.get(f"/tasks/{run['task_id']}")
    assert task["status"] in ("ready", "running")
    await eventually(lambda: is_ready(api, run["task_id"]), what="the task's return to ready")
    refused = await api.http.patch(f"/runs/{run_id}", json={"action": "resume"})
    assert refused.status_code == 409
    assert len(await ledger.calls(plan)) == 2, "nothing starts any more"


async def is_ready(api: Api, task_id: str) -> bool:
    return bool((await api.get(f"/tasks/{task_id}"))["status"] == "ready")


async def test_pausing_lets_what_runs_finish_and_resuming_goes_on(api: Api, ledger: Ledger) -> None:
    plan = Plan().node("a", words="slow:3").node("b", "a").node("c", "b")
    run_id = await api.launch("To be paused", plan.nodes)
    await ledger.until(plan, lambda calls: len(open_calls(calls)) == 1)
    answer = await api.control(run_id, "pause")
    assert answer["status"] == "paused"
    await became(api, run_id, "paused")
    await ledger.until_done(plan, 1)

    async def done() -> bool:
        return bool((await api.nodes(run_id))["a"]["status"] == "completed")

    await eventually(done, what="the node that was running, completed")
    assert (await ledger.counts(plan)) == {"a": 1}
    assert (await api.run(run_id))["pause_reasons"] == ["control"]
    nothing_failed = await api.http.patch(f"/runs/{run_id}", json={"action": "skip_failed_and_resume"})
    assert nothing_failed.status_code == 400

    answer = await api.control(run_id, "resume")
    assert answer["status"] == "running"
    await api.ended(run_id)
    assert (await ledger.counts(plan)) == {"a": 1, "b": 1, "c": 1}
    told = [level for level in levels(await api.told_all(run_id)) if level.startswith("RUN_")]
    orders = told.count("RUN_CONTROL_ASKED")
    rest = [level for level in told if level != "RUN_CONTROL_ASKED"]
    assert rest == ["RUN_QUEUED", "RUN_STARTED", "RUN_PAUSED", "RUN_RESUMED", "RUN_COMPLETED"]
    assert orders == 2, "what was refused is no order"


async def test_a_failed_run_goes_on_when_its_failed_nodes_are_skipped(api: Api, ledger: Ledger) -> None:
    plan = Plan().node("good").node("bad", words="fail:400:9").node("join", "good", "bad")
    run_id = await api.launch("To be rescued", plan.nodes)
    run = await api.ended(run_id, "failed")
    failed = {n["key"]: n["error"] for n in run["dag"]["nodes"] if n["status"] == "failed"}
    assert set(failed) == {"bad"}
    assert "synthetic failure" in failed["bad"], "the provider's own words"
    assert "bad" in run["error"]

    answer = await api.control(run_id, "skip_failed_and_resume")
    assert answer["skipped_nodes"] == ["bad"]
    await became(api, run_id, "completed")
    assert {key: node["status"] for key, node in (await api.nodes(run_id)).items()} == {
        "good": "completed",
        "bad": "skipped",
        "join": "completed",
    }
    assert (await ledger.counts(plan)) == {"good": 1, "bad": 1, "join": 1}


async def test_what_cannot_be_done_is_refused_with_the_state_that_is_in_the_way(api: Api) -> None:
    run_id = await api.launch("Already over", Plan().node("a").nodes)
    await api.ended(run_id)
    for action in ("pause", "resume", "cancel", "skip_failed_and_resume"):
        refused = await api.http.patch(f"/runs/{run_id}", json={"action": action})
        assert refused.status_code == 409, action
        assert "completed" in refused.json()["detail"]
    unknown = await api.http.patch(f"/runs/{run_id}", json={"action": "explode"})
    assert unknown.status_code == 400
    assert "skip_failed_and_resume" in unknown.json()["detail"], "it names what there is"


async def test_a_task_has_one_active_run_and_may_have_another_afterwards(api: Api, ledger: Ledger) -> None:
    plan = Plan().node("a", words="slow:60")
    task = await api.post("/tasks", {"title": f"One at a time {plan.name}"})
    await api.post("/plans", {"task_id": task["id"], "graph": plan.nodes})
    first = (await api.post(f"/tasks/{task['id']}/start", expect=202))["run_id"]
    refused = await api.http.post(f"/tasks/{task['id']}/start")
    assert refused.status_code == 409
    assert refused.json()["details"]["run_id"] == first
    deleted = await api.http.delete(f"/tasks/{task['id']}")
    assert deleted.status_code == 409
    await api.control(first, "cancel")
    await api.ended(first, "canceled")
    await eventually(lambda: is_ready(api, task["id"]), what="the task's return to ready")


async def test_a_node_has_its_time_and_a_run_has_its_time(api: Api, ledger: Ledger) -> None:
    plan = Plan().node("late", words="slow:60", timeout_s=1.5, max_attempts=2)  # the call must be under way by then
    run = await api.ended(await api.launch("Node out of time", plan.nodes), "failed")
    assert "1.5 s" in run["dag"]["nodes"][0]["error"]
    assert {c.outcome for c in await ledger.until(plan, lambda calls: not open_calls(calls))} == {"disconnected"}
    assert (await ledger.counts(plan)) == {"late": 2}

    plan = Plan().node("endless", words="slow:60").node("after", "endless")
    run_id = await api.launch("Run out of time", plan.nodes, timeout_s=0.5)
    run = await api.ended(run_id, "failed")
    assert "0.5 s" in run["error"]
    told = await api.told_all(run_id, "FAILED")
    reasons = [json.loads(e["message"])["reason"] for e in told if e["level"] == "RUN_FAILED"]
    assert reasons == [run["error"]]
