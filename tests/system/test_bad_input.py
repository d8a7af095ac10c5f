"""Bad input over the whole stack: a 4xx that says what to do, never a 5xx, and nothing of it stays behind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from tests.system.api import Api
from tests.system.defaults import API_KEY
from tests.system.world import World

NOBODY = "00000000-0000-4000-8000-000000000000"


def nodes(count: int) -> list[dict[str, Any]]:
    return [{"id": f"n{n}", "title": "x"} for n in range(count)]


CYCLE = [{"id": "a", "title": "x", "deps": ["b"]}, {"id": "b", "title": "x", "deps": ["a"]}]
SELF = [{"id": "a", "title": "x", "deps": ["a"]}]
STRANGER = [{"id": "a", "title": "x", "deps": ["nobody"]}]
TWINS = [{"id": "a", "title": "x"}, {"id": "a", "title": "y"}]


@pytest_asyncio.fixture
async def clean(api: Api) -> AsyncIterator[Api]:
    """What was refused must not have left a task or a run."""

    async def counted() -> list[int]:
        return [(await api.get(path, limit=1))["total"] for path in ("/tasks", "/runs")]

    before = await counted()
    yield api
    assert await counted() == before


@pytest.mark.parametrize(
    ("graph", "says"),
    [
        (CYCLE, "cycle"),
        (SELF, "a"),
        (STRANGER, "nobody"),
        (TWINS, "a"),
        (nodes(201), "200"),
        ([], "1"),
        ({"plan": nodes(2), "edges": [{"source": "n0", "target": "nobody"}]}, "nobody"),
        ({"plan": nodes(1), "version": "2.0"}, "1.0"),
    ],
    ids=["cycle", "self", "stranger", "twins", "201 nodes", "no node", "edge to nowhere", "version"],
)
async def test_an_unsound_graph_is_refused_with_the_reason(graph: Any, says: str, clean: Api) -> None:
    refused = await clean.http.post("/tasks", json={"title": "Unsound", "task": graph})
    assert refused.status_code == 422, refused.text
    assert says in json.dumps(refused.json()["detail"])


async def test_every_violation_of_a_graph_is_named(clean: Api) -> None:
    graph = [
        *TWINS,
        {"id": "c", "title": "x", "deps": ["nobody"]},
        *CYCLE[1:],
        {"id": "d", "title": "x", "deps": ["d"]},
    ]
    refused = await clean.http.post("/tasks", json={"title": "Unsound", "task": graph})
    said = json.dumps(refused.json()["detail"])
    assert refused.status_code == 422
    assert all(name in said for name in ("'a'", "'nobody'", "'d'")), said


async def test_200_nodes_are_not_too_many(api: Api) -> None:
    graph = [node | {"kind": "noop"} for node in nodes(200)]
    run = await api.ended(await api.launch("Two hundred", graph))
    assert run["summary"]["nodes_completed"] == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"title": "t", "colour": "red"}, 422),
        ({"title": 7}, 422),
        ({"title": None}, 422),
        ({"title": "x" * 10_240}, 422),
        ({"title": " "}, 422),
        ({}, 422),
        ([], 422),
        ({"title": "t", "task_spec": {"type": "unheard of"}}, 422),
        ({"title": "t", "task_spec": {}}, 422),
        ({"title": "t", "task_spec": {"type": "demo", "unknown": 1}}, 422),
        ({"title": "t", "task_spec": {"type": "demo"}, "task": nodes(1)}, 400),
        ({"title": "t", "options": {"dry_run": True}}, 400),
        ({"title": "t", "task_file": "../../etc/passwd"}, 422),
        ({"title": "t", "task": nodes(1), "options": {"timeout_s": -1}}, 422),
        ({"title": "t", "task": nodes(1), "options": {"max_attempts": 10**30}}, 422),
        ({"title": "t", "task": nodes(1), "gate": "ajar"}, 422),
        ({"title": "t", "task": nodes(1), "project": "no-such-project"}, 404),
        ({"title": "t", "project": "no-such-project"}, 404),
    ],
    ids=lambda value: json.dumps(value)[:60] if not isinstance(value, int) else "",
)
async def test_a_body_that_makes_no_sense_is_refused(body: Any, status: int, clean: Api) -> None:
    refused = await clean.http.post("/tasks", json=body)
    assert refused.status_code == status, refused.text
    problem = refused.json()
    assert problem["status"] == status
    assert problem["detail"]
    assert problem["request_id"] == refused.headers["X-Request-ID"]


@pytest.mark.parametrize(
    "raw",
    [
        b'{"title": "a\\u0000b"}',
        b'{"title": "\\ud800"}',
        b'{"title": "\xff\xfe"}',
        b'{"title": "\xed\xa0\x80"}',
        b'{"title": "t", "task": [{"id": "a", "title": "x", "params": {"k": "\\u0000"}}]}',
        b'{"title": "t", "task": [{"id": "a", "title": "x", "params": {"k": 1e999}}]}',
        b'{"title": "t", "task": [{"id": "a", "title": "x", "params": ' + b'{"k":' * 40 + b"1" + b"}" * 40 + b"}]}",
        b'{"title": "t",',
        b"\x00",
        b"",
    ],
)
async def test_bytes_that_are_no_text_of_ours_are_refused(raw: bytes, clean: Api) -> None:
    refused = await clean.http.post("/tasks", content=raw, headers={"Content-Type": "application/json"})
    assert refused.status_code == 422, refused.text
    assert refused.json()["detail"]


async def test_texts_of_every_script_and_the_longest_title_pass(api: Api) -> None:
    for title in (
        f"{uuid4()} مرحبا 你好 🦀 e\u0301 \u202e",
        f"{uuid4()}".ljust(200, "é"),
        f"{uuid4()} '; drop table tasks; --",
    ):
        task = await api.post("/tasks", {"title": title})
        assert task["title"] == title
        assert (await api.get(f"/tasks/{task['id']}"))["title"] == title


async def test_a_body_over_a_megabyte_is_refused_and_one_below_is_not(clean: Api) -> None:
    large = await clean.http.post("/tasks", json={"title": "t", "description": "x" * 1_100_000})
    assert large.status_code == 413
    assert "1048576" in large.json()["detail"]
    graph = [node | {"kind": "noop", "instructions": "ü" * 2_000} for node in nodes(200)]
    fits = await clean.http.post("/plans", json={"task_id": NOBODY, "graph": graph})
    assert fits.status_code == 404, fits.text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"X-Timezone": "Mars/Olympus"}, 400),
        ({"X-Timezone": "../../etc/passwd"}, 400),
        ({"X-Timezone": ""}, 400),
        ({"X-Timezone": "x" * 65}, 422),
        ({"X-Role": "emperor"}, 400),
        ({"X-Request-ID": "a b"}, 400),
        ({"X-Request-ID": "x" * 129}, 400),
        ({"Idempotency-Key": "x" * 256}, 422),
    ],
)
async def test_headers_that_make_no_sense_are_refused(headers: dict[str, str], status: int, clean: Api) -> None:
    url = "/tasks" if "Idempotency-Key" not in headers else f"/tasks/{NOBODY}/start"
    method = "GET" if url == "/tasks" else "POST"
    refused = await clean.http.request(method, url, headers=headers)
    assert refused.status_code == status, refused.text
    assert refused.json()["detail"]


async def test_what_is_not_there_is_404_and_says_what_was_looked_for(clean: Api) -> None:
    asked = [
        ("GET", f"/tasks/{NOBODY}"),
        ("PATCH", f"/tasks/{NOBODY}"),
        ("POST", f"/tasks/{NOBODY}/plan"),
        ("POST", f"/tasks/{NOBODY}/start"),
        ("GET", f"/plans/{NOBODY}"),
        ("GET", f"/plans/{NOBODY}/versions"),
        ("GET", f"/plans/{NOBODY}/versions/1"),
        ("GET", f"/plans/{NOBODY}/versions/1/diff"),
        ("POST", f"/plans/{NOBODY}/auto_assign"),
        ("GET", f"/runs/{NOBODY}"),
        ("GET", f"/runs/{NOBODY}/summary"),
        ("GET", f"/runs/{NOBODY}/nodes"),
        ("GET", f"/runs/{NOBODY}/events"),
        ("GET", f"/runs/{NOBODY}/tokens"),
        ("GET", f"/events/stream?run_id={NOBODY}"),
        ("GET", f"/nodes/{NOBODY}"),
        ("GET", f"/nodes/{NOBODY}/artifacts"),
    ]
    for method, path in asked:
        body = {"title": "another"} if method == "PATCH" else None
        missing = await clean.http.request(method, path, json=body)
        assert missing.status_code == 404, (method, path, missing.text)
        assert NOBODY in str(missing.json()), (method, path)
    gone = await clean.http.delete(f"/tasks/{NOBODY}")
    assert gone.status_code == 204


async def test_raw_garbage_on_the_port_harms_nobody(world: World, clean: Api) -> None:
    port = int(world.url().rsplit(":", 1)[1])
    head = f"POST /tasks HTTP/1.1\r\nHost: x\r\nX-API-Key: {API_KEY}\r\nContent-Type: application/json\r\n"
    for garbage in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"A" * 100_000,
        f"{head}Content-Length: -1\r\n\r\n".encode(),
        f"{head}Content-Length: nine\r\n\r\n".encode(),
        f"{head}Transfer-Encoding: chunked\r\n\r\nzz\r\n".encode(),
        f"{head}X-Junk: ".encode() + bytes(range(128, 256)) + b"\r\nContent-Length: 2\r\n\r\n{}",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(garbage)
        with suppress(ConnectionError):  # hanging up is an answer, too
            writer.write_eof()
            answer = await asyncio.wait_for(reader.read(), 10)
            assert b" 500 " not in answer[:20]
        writer.close()
    assert (await clean.get("/health"))["status"] == "ok"


async def test_an_unknown_provider_is_refused_or_fails_the_run_in_clear_words(api: Api) -> None:
    launched = await api.http.post(
        "/tasks", json={"title": "t", "task": nodes(1), "options": {"llm_backend": "skynet"}}
    )
    if launched.status_code == 202:
        run = await api.ended(launched.json()["run_id"], "failed")
        assert "skynet" in run["dag"]["nodes"][0]["error"]
    else:
        assert launched.status_code == 422
        assert "skynet" in launched.text
