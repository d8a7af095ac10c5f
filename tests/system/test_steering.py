"""Steering tasks, nodes and companies on the whole stack, over HTTP and with the command line."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest

from chassis.testing.eventually import eventually
from tests.system.api import Api, Json, Watcher, levels
from tests.system.defaults import API_KEY
from tests.system.ledger import Ledger, Plan, open_calls
from tests.system.typed import COMMAND, said_by
from tests.system.world import World


async def planned(api: Api, plan: Plan, scope: str = "", into: str = "/tasks", **fields: Any) -> str:
    """The id of a task that is ready to run."""
    task = await api.post(f"{scope}{into}", {"title": f"Steered {plan.name}", **fields})
    await api.post(f"{scope}/plans", {"task_id": task["id"], "graph": plan.nodes})
    return str(task["id"])


async def started(api: Api, task_id: str, how: str = "run", scope: str = "") -> str:
    return str((await api.post(f"{scope}/tasks/{task_id}/{how}", expect=202))["run_id"])


async def reached(api: Api, task_id: str, status: str) -> Json:
    """The task's status once the task is in this state."""
    seen: Json = {}

    async def there() -> bool:
        seen.update(await api.get(f"/tasks/{task_id}/status"))
        return bool(seen["task"]["status"] == status)

    await eventually(there, what=f"task {task_id} {status}")
    return seen


async def refused(api: Api, method: str, path: str, body: Any = None) -> Json:
    answer = await api.http.request(method, path, json=body)
    assert answer.status_code == 409, (path, answer.text)
    found: Json = answer.json()
    return found


async def test_a_task_is_paused_resumed_canceled_and_reset_and_every_step_is_told(api: Api, ledger: Ledger) -> None:
    plan = Plan().node("a", words="slow:4").node("b", "a", words="slow:60")
    task_id = await planned(api, plan)
    run_id = await started(api, task_id)
    assert (await refused(api, "POST", f"/tasks/{task_id}/run"))["details"]["run_id"] == run_id
    await ledger.until(plan, lambda calls: len(open_calls(calls)) == 1)

    ada = {"X-Actor": "ada", "Idempotency-Key": f"pause {plan.name}"}
    asked = [await api.post(f"/tasks/{task_id}/pause", expect=200, **ada) for _ in range(2)]
    assert asked[0] == asked[1], "the same key is the same order"
    assert asked[0]["control"]["pause"] is True
    assert asked[0]["control"]["asked_by"].startswith("ada, admin (request ")
    control = (await api.run(run_id))["control"]
    assert (control["wanted"], control["asked_by"]) == ("pause", asked[0]["control"]["asked_by"])

    standing = await reached(api, task_id, "paused")
    assert standing["run"]["status"] == "paused"
    assert standing["run"]["control"]["effective_at"] > standing["run"]["control"]["asked_at"]
    assert (standing["nodes"], standing["degraded"]) == ({"completed": 1, "queued": 1}, [])
    assert (await ledger.counts(plan)) == {"a": 1}, "what ran was let finish, nothing else began"

    await api.post(f"/tasks/{task_id}/resume", expect=200)
    await ledger.until(plan, lambda calls: len(open_calls(calls)) == 1)
    worker = (await reached(api, task_id, "running"))["worker"]
    assert worker["lease_until"]
    await api.post(f"/tasks/{task_id}/cancel", expect=200)
    standing = await reached(api, task_id, "ready")
    assert (standing["run"], standing["task"]["control"]["cancel"]) == (None, True)
    assert standing["runtime"]["job_id"] == run_id
    assert (await refused(api, "POST", f"/tasks/{task_id}/run"))["code"] == "canceled"
    await api.post(f"/tasks/{task_id}/reset", expect=200)
    again = await started(api, task_id)
    await api.post(f"/runs/{again}/cancel", expect=202)
    await api.ended(again, "canceled")

    runs = await api.get(f"/tasks/{task_id}/runs", order_by="-created_at")
    assert [run["id"] for run in runs["items"]] == [again, run_id]

    async def told() -> list[str]:
        found = levels((await api.get(f"/tasks/{task_id}/events", limit=200))["items"])
        return found if found.count("RUN_CANCELED") == 2 else []

    found = await eventually(told, what="both runs' ends in the task's story")
    assert found.count("TASK_CONTROL_ASKED") == 4
    assert {"TASK_CREATED", "TASK_PAUSED", "NODE_COMPLETED", "RUN_PAUSED", "RUN_RESUMED"} <= set(found)


async def test_a_retry_does_again_what_is_missing_and_fresh_does_everything(api: Api, ledger: Ledger) -> None:
    plan = Plan().node("good").node("bad", words="fail:400:1").node("join", "good", "bad")
    task_id = await planned(api, plan)
    first = await started(api, task_id)
    await api.ended(first, "failed")
    await reached(api, task_id, "failed")
    again = await started(api, task_id, "retry")
    run = await api.ended(again)
    assert run["reuses_run_id"] == first
    assert [node["key"] for node in run["dag"]["nodes"] if node["reused_from"]] == ["good"]
    assert (await ledger.counts(plan)) == {"good": 1, "bad": 2, "join": 1}
    await reached(api, task_id, "completed")
    await api.ended(await started(api, task_id, "retry?fresh=true"))
    assert (await ledger.counts(plan)) == {"good": 2, "bad": 3, "join": 2}


async def test_a_node_is_overridden_paused_and_skipped_while_its_watcher_sees_it(
    api: Api, world: World, ledger: Ledger
) -> None:
    plan = Plan().node("draft", words="slow:60").node("side", words="slow:60").node("after", "draft", "side")
    run_id = await api.launch("To be corrected", plan.nodes)
    async with Watcher([world.url()], run_id) as watcher:
        await ledger.until(plan, lambda calls: len(open_calls(calls)) == 2)
        nodes = await api.nodes(run_id)
        draft, side, after = (nodes[key]["id"] for key in ("draft", "side", "after"))
        waiting = {item["key"]: item for item in (await api.get(f"/runs/{run_id}/waiting"))["items"]}
        assert {key: item["reason"] for key, item in waiting.items()} == {
            "draft": "running",
            "side": "running",
            "after": "dependency",
        }
        assert waiting["after"]["on"] == ["draft", "side"]
        assert all(item["release"] for item in waiting.values())

        body = {"action": "override", "prompt": f"mark:{plan.name}/draft say:a better draft"}
        answer = (await api.http.patch(f"/nodes/{draft}", json=body)).json()
        assert (answer["status_after"], answer["sidecar_updated"]) == ("queued", True)
        paused = await api.http.patch(f"/nodes/{after}", json={"action": "pause"})
        assert paused.json()["status_after"] == "paused"
        skipped = await api.http.patch(f"/nodes/{side}", json={"action": "skip"})
        assert skipped.json()["status_after"] == "skipped"

        async def held() -> bool:
            states = {key: node["status"] for key, node in (await api.nodes(run_id)).items()}
            return states == {"draft": "completed", "side": "skipped", "after": "paused"}

        await eventually(held, what="the overridden node done, the other skipped, the last one held")
        (item,) = (await api.get(f"/runs/{run_id}/waiting"))["items"]
        assert (item["reason"], item["key"]) == ("paused", "after")
        assert item["by"].startswith("admin (request ")
        assert (await api.get(f"/nodes/{draft}"))["output"] == "a better draft"
        await api.http.patch(f"/nodes/{after}", json={"action": "resume"})
        await api.ended(run_id)
        await watcher.saw("RUN_COMPLETED")
        seen = {told.data["level"] for told in watcher.seen}
        assert {"NODE_OVERRIDDEN", "NODE_PAUSED", "NODE_SKIPPED", "NODE_RESUMED"} <= seen
    calls = await ledger.until(plan, lambda calls: not open_calls(calls))
    assert [call.outcome for call in calls].count("disconnected") == 2, "both were cut off"
    illegal = await refused(api, "PATCH", f"/nodes/{side}", {"action": "pause"})
    assert (illegal["details"]["state"], "pause" in illegal["details"]["legal"]) == ("skipped", False)


async def test_the_last_completion_starts_the_task_that_waits_and_a_cycle_is_refused(api: Api) -> None:
    before = [await planned(api, Plan().node("a", kind="noop")) for _ in range(2)]
    plan = Plan().node("a", kind="noop")
    after = await planned(api, plan, dependencies=before[:1], auto_start=False)
    links = await api.post(f"/tasks/{after}/dependencies", {"depends_on": before[1:]})
    assert ([task["id"] for task in links["items"]], links["waiting"]) == (before, True)
    cycle = await refused(api, "POST", f"/tasks/{before[0]}/dependencies", {"depends_on": [after]})
    assert (cycle["code"], set(cycle["details"]["cycle"])) == ("cycle", {before[0], after})
    early = await refused(api, "POST", f"/tasks/{after}/run")
    assert set(early["details"]["waits_for"]) == set(before)
    assert [task["id"] for task in (await api.get(f"/tasks/{before[0]}/dependents"))["items"]] == [after]

    await api.ended(await started(api, before[0]))
    await reached(api, before[0], "completed")
    assert (await api.get(f"/tasks/{after}"))["waits_for"] == before[1:]
    removed = await api.http.delete(f"/tasks/{after}/dependencies/{before[1]}")
    assert [task["id"] for task in removed.json()["items"]] == before[:1]
    await api.ended(await started(api, after))


async def test_a_company_has_its_own_tasks_runs_and_events_under_its_own_path(api: Api, world: World) -> None:
    company = f"c{uuid4().hex[:8]}"
    scope, project = f"/companies/{company}", f"/companies/{company}/projects/site"
    await api.post("/companies", {"id": company, "name": "A company"})
    await refused(api, "POST", "/companies", {"id": company, "name": "Another"})
    await api.post(f"{scope}/projects", {"id": "site", "name": "The site"})
    assert {p["id"] for p in (await api.get(f"{scope}/projects"))["items"]} == {"default", "site"}
    plan = Plan().node("a", kind="noop")
    task_id = await planned(api, plan, scope, "/projects/site/tasks", job_type="page", payload={"url": "/"}, priority=3)
    accepted = await api.http.post(f"{project}/tasks/{task_id}/run")
    assert accepted.status_code == 202
    location = accepted.headers["Location"]
    assert location.startswith(f"{scope}/runs/")

    async def over() -> bool:
        return bool((await api.get(location))["status"] == "completed")

    await eventually(over, what="the end of the company's run")
    found = await api.get(f"{scope}/tasks/{task_id}")
    assert (found["job_type"], found["payload"], found["priority"]) == ("page", {"url": "/"}, 3)
    assert found["runtime"]["job_id"] == location.rsplit("/", maxsplit=1)[-1]
    for wrong in (
        f"/tasks/{task_id}",
        f"/companies/default/tasks/{task_id}/status",
        f"{scope}/projects/default/tasks/{task_id}/runs",
        location.removeprefix(scope),
        f"{location.removeprefix(scope)}/waiting",
    ):
        assert (await api.http.get(wrong)).status_code == 404, wrong

    async def told() -> list[Json]:
        found: list[Json] = (await api.get(f"{scope}/events", limit=200))["items"]
        return found if "RUN_COMPLETED" in levels(found) else []

    events = await eventually(told, what="the end in the company's feed")
    assert {json.loads(event["message"])["company"] for event in events} == {company}
    mine = {event["id"] for event in events}
    assert not mine & {event["id"] for event in await api.events(location.rsplit("/", maxsplit=1)[-1])}


@pytest.fixture
def surroundings(world: World) -> dict[str, str]:
    return {"FLUIDCREW_URL": world.url(), "API_KEY": API_KEY, "USER": "ada", "LOGNAME": "ada", "COLUMNS": "80"}


async def test_the_command_line_steers_what_it_names_by_a_few_characters(
    api: Api, ledger: Ledger, surroundings: dict[str, str]
) -> None:
    plan = Plan().node("a", words="slow:60").node("bad", words="fail:400:1").node("b", "a")
    task_id = await planned(api, plan)
    run_id = await started(api, task_id)
    await ledger.until(plan, lambda calls: len(open_calls(calls)) == 1)

    async def typed(*words: str, expect: int = 0) -> str:
        return await said_by(COMMAND, *words, expect=expect, **surroundings)

    why = await typed("why", run_id[:8])
    assert "running: attempt 1 is under" in why
    assert "dependency: it needs the" in why
    paused = await typed("pause", run_id[:8], "--interrupt")
    assert "by ada, admin, cutting off what runs, paused " in paused
    status = await typed("status", task_id[:8])
    assert "paused" in status.splitlines()[0]
    assert "pause requested" in status
    assert "bad: openai at" in status
    assert "skip requested" in await typed("skip", run_id, "bad")
    assert json.loads(await typed("resume", run_id[:8], "--json"))["status"] == "running"
    await ledger.until(plan, lambda calls: len(open_calls(calls)) == 1)
    assert "flag cancel set" in await typed("cancel", task_id[:8])
    await api.ended(run_id, "canceled")
    await reached(api, task_id, "ready")
    assert "fluidcrew reset" in await typed("retry", task_id[:8], expect=4)
    assert "no flag is set" in await typed("reset", run_id[:8])
    assert "openai *" in await typed("providers")
