"""Whatever a client sends, it gets a 4xx that says what is wrong: never a 500, never an echo that cannot be encoded."""

from __future__ import annotations

import asyncio
import json
from uuid import uuid4

import httpx

from tests.gateway.conftest import KEY, Gateway

JSON = {"Content-Type": "application/json"}


async def test_unreadable_bodies_are_refused_with_the_reason(client: httpx.AsyncClient) -> None:
    deep = b'{"title": "t", "task_spec": {"params": {"x": ' + b"[" * 40 + b"]" * 40 + b"}}}"
    for body, status, says in (
        (b"{", 422, "not valid JSON"),
        (b"not json", 422, "not valid JSON"),
        (b'{"title": "\xff"}', 422, "not valid UTF-8 at byte 11"),
        (b'{"title": "a\\u0000b"}', 422, "NUL"),
        (b'{"title": "a\x00b"}', 422, "not valid JSON"),
        (b'{"title": "\\ud800"}', 422, "surrogate"),
        (b'{"title": "t", "task_spec": {"params": {"\\udfff": 1}}}', 422, "surrogate"),
        (b'{"title": "t", "options": {"timeout_s": NaN}}', 422, "NaN"),
        (b'{"title": ' + b"9" * 5000 + b"}", 422, "too large"),
        (deep, 422, "deeper than 32"),
        (b"[" * 300_000, 422, "deeper than 32"),
        (b'"' + b'\\"' * 400_000, 422, "not valid JSON"),
        (b"", 422, "required"),
        (b"null", 422, "valid dictionary"),
        (b"[]", 422, "valid dictionary"),
        (b'"text"', 422, "valid dictionary"),
    ):
        response = await client.post("/tasks", content=body, headers=JSON)
        assert response.status_code == status, (body[:60], response.text[:300])
        assert says.lower() in str(response.json()["detail"]).lower(), (body[:60], response.text[:300])


async def test_a_body_with_more_mistakes_than_anybody_reads_is_answered_in_short(client: httpx.AsyncClient) -> None:
    response = await client.post("/tasks", json={"title": "t"} | {f"field{n}": n for n in range(50_000)})
    *named, rest = response.json()["detail"]
    assert (response.status_code, len(named), named[0]["loc"]) == (422, 50, ["body", "field0"])
    assert rest["msg"] == "and 49,950 more; mend these first"


async def test_wrong_values_are_named_one_by_one(client: httpx.AsyncClient) -> None:
    for body, loc in (
        ({}, ["body", "title"]),
        ({"title": 7}, ["body", "title"]),
        ({"title": "x" * 10_240}, ["body", "title"]),
        ({"title": "   "}, ["body", "title"]),
        ({"title": "t", "colour": "red"}, ["body", "colour"]),
        ({"title": "t", "gate": "shut"}, ["body", "gate"]),
        ({"title": "t", "auto_start": "perhaps"}, ["body", "auto_start"]),
        ({"title": "t", "task": [{"id": "a"}]}, ["body", "task", "plan", 0, "title"]),
        ({"title": "t", "task": [{"id": "-", "title": "x"}]}, ["body", "task", "plan", 0, "id"]),
        ({"title": "t", "task_spec": {"plan": "soon"}}, ["body", "task_spec", "plan"]),
        ({"title": "t", "task_spec": {}, "options": {"max_attempts": 0}}, ["body", "options", "max_attempts"]),
        ({"title": "t", "project": "No Slug"}, ["body", "project"]),
        ({"title": "t", "task_file": "a" * 201}, ["body", "task_file"]),
        ({"title": "t", "task_file": "  "}, ["body", "task_file"]),
    ):
        response = await client.post("/tasks", json=body)
        assert response.status_code == 422, body
        assert loc in [error["loc"] for error in response.json()["detail"]], (body, response.text[:500])


async def test_none_or_several_sources_of_an_ad_hoc_run_are_a_400(client: httpx.AsyncClient) -> None:
    graph = [{"id": "a", "title": "x"}]
    for sources in (
        {"options": {}},
        {"request_id": "r"},
        {"task": graph, "task_spec": {}},
        {"task": graph, "task_file": "f"},
    ):
        response = await client.post("/tasks", json={"title": "t", **sources})
        assert response.status_code == 400, sources
        assert "exactly one" in response.json()["detail"]


async def test_unknown_actions_are_a_400_that_names_the_known_ones(client: httpx.AsyncClient) -> None:
    response = await client.patch(f"/runs/{uuid4()}", json={"action": "explode"})
    assert response.status_code == 400
    assert "skip_failed_and_resume" in response.json()["detail"]


async def test_bodies_that_are_no_json_are_a_415(client: httpx.AsyncClient) -> None:
    for headers in ({"Content-Type": "text/plain"}, {"Content-Type": "application/x-www-form-urlencoded"}, {}):
        response = await client.post("/tasks", content=b'{"title": "t"}', headers=headers)
        assert response.status_code == 415, headers
        assert "application/json" in response.json()["detail"]
    for kind in ("application/json; charset=utf-8", "application/merge-patch+json"):
        response = await client.post("/tasks", content=b'{"title": "t"}', headers={"Content-Type": kind})
        assert response.status_code == 503, "readable, only the planner is not there"


async def test_strange_urls_are_refused(client: httpx.AsyncClient) -> None:
    for url, status in (
        ("/tasks?title_contains=%00", 400),
        ("/tasks/%00", 400),
        ("/tasks/not-a-uuid", 422),
        (f"/plans/{uuid4()}/versions/0", 422),
        (f"/plans/{uuid4()}/versions/99999999999999", 422),
        ("/tasks?status=unheard", 422),
        ("/runs?started_from=yesterday", 422),
        ("/events/stream", 422),
        ("/events?run_id=7", 422),
        ("/events?q=%ff%fe%ed%a0%80", 200),
        (f"/events?q={'x' * 201}", 422),
        ("/runs/" + "x" * 5000, 422),
        ("/admin/dead-letters/nobody", 422),
    ):
        response = await client.get(url)
        assert response.status_code == status, url
        assert response.headers["X-Request-ID"]


async def test_a_body_over_a_megabyte_is_a_413_however_it_comes(gateway: Gateway) -> None:
    announced = await gateway.client.post("/tasks", content=b"x" * 1_048_577, headers=JSON)
    assert announced.status_code == 413

    async def endless() -> object:
        for _ in range(20):
            yield b" " * 100_000

    streamed = await gateway.client.post("/tasks", content=endless(), headers=JSON)  # type: ignore[arg-type]
    assert streamed.status_code == 413
    assert "1048576" in streamed.json()["detail"]
    fits = await gateway.client.post("/tasks", content=b'{"title": "t"' + b" " * 1_000_000 + b"}", headers=JSON)
    assert fits.status_code == 503, "readable, only the planner is not there"


async def test_a_client_that_leaves_in_the_middle_of_its_body_harms_nobody(gateway: Gateway) -> None:
    host, port = gateway.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /tasks HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {KEY}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: 90\r\n\r\n".encode() + b'{"title":')
    await writer.drain()
    writer.close()
    assert (await gateway.client.get("/events")).status_code == 200


async def test_a_plan_with_a_wrong_graph_is_refused_field_by_field(client: httpx.AsyncClient) -> None:
    body = {"task_id": str(uuid4()), "graph": {"version": "2.0", "plan": [{"id": "a", "title": "x", "extra": 1}]}}
    response = await client.post("/plans", content=json.dumps(body), headers=JSON)
    assert response.status_code == 422
    locs = [error["loc"] for error in response.json()["detail"]]
    assert ["body", "graph", "version"] in locs
    assert ["body", "graph", "plan", 0, "extra"] in locs
