"""The owner of an answer is down: 503 with Retry-After at once, and the same answers as ever when it is back."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest

from chassis.testing.eventually import eventually
from tests.system.api import Api
from tests.system.checks import the_feed_is_whole
from tests.system.ledger import Plan
from tests.system.world import World

NOBODY = "00000000-0000-4000-8000-000000000000"


def is_said_to_come_back(response: httpx.Response) -> None:
    assert response.status_code == 503, response.text
    assert int(response.headers["Retry-After"]) >= 1
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.json()["code"] == "unavailable"


async def serves(api: Api, path: str) -> None:
    await eventually(lambda: api.get(path), what=f"an answer to {path}")


@pytest.mark.parametrize(
    ("owner", "own", "other"),
    [
        ("planner", ["/tasks", f"/tasks/{NOBODY}", f"/plans/{NOBODY}"], "/runs"),
        ("executor", ["/runs", f"/runs/{NOBODY}", f"/nodes/{NOBODY}", "/config/llm"], "/tasks"),
        ("feedback", ["/feedbacks", f"/feedbacks/{NOBODY}", "/feedback-policies"], "/runs"),
    ],
)
async def test_while_the_owner_is_down_its_answers_are_503_and_others_stay(
    owner: str, own: list[str], other: str, world: World, api: Api
) -> None:
    world.kill(owner)
    for path in own:
        is_said_to_come_back(await asyncio.wait_for(api.http.get(path), 20))
    await api.get(other)
    await api.get("/events")
    await eventually(lambda: misses(api, owner), what=f"health that names the {owner}")
    world.launch(owner)
    await serves(api, own[0])
    await eventually(lambda: is_well(api), what="health")


async def misses(api: Api, owner: str) -> bool:
    health = await api.get("/health")
    return health["status"] == "degraded" and health["owners"][owner] is False


async def misses_its_database(api: Api) -> bool:
    return (await api.get("/health"))["db_ok"] is False  # it may be a second old


async def is_well(api: Api) -> bool:
    return bool((await api.get("/health"))["status"] == "ok")


async def test_a_start_while_the_executor_is_down_can_be_repeated_when_it_is_back(world: World, api: Api) -> None:
    plan = Plan.chain(2)
    task = await api.post("/tasks", {"title": f"Patient {plan.name}"})
    await api.post("/plans", {"task_id": task["id"], "graph": plan.nodes})
    world.kill("executor")
    key = {"Idempotency-Key": str(uuid4())}
    is_said_to_come_back(await api.http.post(f"/tasks/{task['id']}/start", headers=key))
    world.launch("executor")
    await serves(api, "/runs")
    started = await api.post(f"/tasks/{task['id']}/start", expect=202, **key)
    await api.ended(started["run_id"])
    runs = await api.get("/runs", task_id=task["id"])
    assert [run["id"] for run in runs["items"]] == [started["run_id"]], "asked twice, run once"


@pytest.mark.parametrize("dies", ["planner", "gateway", "nats", "postgres"])
async def test_an_idempotent_answer_is_the_same_across_a_death_of(dies: str, world: World, api: Api) -> None:
    key = {"Idempotency-Key": f"once {uuid4()}"}
    body: dict[str, Any] = {"title": f"Only once {uuid4()}"}
    first = await api.http.post("/tasks", json=body, headers=key)
    assert first.status_code == 201
    world.restart(dies)

    async def again() -> httpx.Response | None:
        response = await api.http.post("/tasks", json=body, headers=key)
        return response if response.status_code != 503 else None

    second = await eventually(again, what="an answer after the restart")
    assert second.status_code == 201, second.text
    assert second.json() == first.json()
    assert second.headers["Location"] == first.headers["Location"]
    other = await api.http.post("/tasks", json=body | {"description": "another"}, headers=key)
    assert other.status_code == 422
    assert "Idempotency-Key" in other.text
    same_title = await api.http.post("/tasks", json=body)
    assert same_title.status_code == 409, "without the key it is another request"


async def test_no_answer_is_worse_than_503_while_the_database_is_away(world: World, api: Api) -> None:
    run_id = await api.launch("Looked at without a database", Plan().node("a").nodes)
    await api.ended(run_id)
    world.kill("postgres")
    paths = ["/tasks", "/runs", f"/runs/{run_id}", "/events", f"/runs/{run_id}/events", f"/plans/{NOBODY}"]
    answers = [await asyncio.wait_for(api.http.get(path), 20) for path in paths]
    answers.append(await asyncio.wait_for(api.http.post("/tasks", json={"title": f"No database {uuid4()}"}), 20))
    found = {str(a.request.url.path): a.status_code for a in answers}
    assert set(found.values()) == {503}, found
    for answer in answers:
        is_said_to_come_back(answer)
    await eventually(lambda: misses_its_database(api), what="health without a database")
    world.restart("postgres")
    for path in ("/tasks", "/runs", "/events"):
        await serves(api, path)


async def test_no_answer_is_worse_than_503_while_the_bus_is_away(world: World, api: Api) -> None:
    world.kill("nats")
    for path in ("/tasks", "/runs", f"/plans/{NOBODY}"):
        is_said_to_come_back(await asyncio.wait_for(api.http.get(path), 20))
    await api.get("/events")
    world.restart("nats")
    await serves(api, "/tasks")
    await serves(api, "/runs")


async def test_two_hundred_drafts_during_a_broker_outage_are_all_told(world: World, api: Api) -> None:
    """What was answered 2xx while the broker came and went is in the feed."""
    made: list[str] = []

    async def post_some() -> None:
        for n in range(200):
            response = await api.http.post("/tasks", json={"title": f"outage {n} {uuid4()}"})
            assert response.status_code in (201, 503)
            if response.status_code == 201:
                made.append(response.json()["id"])
            else:
                await asyncio.sleep(0.05)

    posting = asyncio.create_task(post_some())
    await eventually(lambda: len(made) > 20, what="some drafts")
    world.restart("nats")
    await posting
    assert len(made) > 40

    async def all_told() -> bool:
        told = [e["task_id"] for e in await api.events() if e["level"] == "TASK_CREATED"]
        return all(told.count(id) == 1 for id in made)

    await eventually(all_told, interval=0.3, what="every draft in the feed, once")
    await the_feed_is_whole(world, api)
