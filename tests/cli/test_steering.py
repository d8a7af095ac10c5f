"""Orders and questions on the command line: what is meant, what is sent, what people and scripts read."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from chassis.testing.loopback_http import HttpRequest
from fluidcrew import standing, steering
from fluidcrew.client import Gateway
from fluidcrew.exits import Exit, Halt
from fluidcrew.naming import meant, run_meant
from tests.cli.conftest import Cli
from tests.cli.fake_gateway import KEY, RUN_ID, FakeGateway, finished_run, node

TASK_ID = "88aa1122-5b1d-4c3e-9a77-0c6f2b1d8e90"
OTHER_ID = "3f2b0000-5b1d-4c3e-9a77-0c6f2b1d8e90"
CONTROL = {
    "wanted": "pause",
    "asked_at": "2025-03-01T12:00:00Z",
    "asked_by": "ada, admin (request 4f1c2b3a4f1c2b3a4f1c2b3a4f1c2b3a)",
    "mode": "finish",
    "effective_at": None,
    "finishing": 2,
}


def a_run(**more: Any) -> dict[str, Any]:
    nodes = [node("brief", status="running", started_at="2025-03-01T12:00:01Z"), node("text", "brief")]
    return finished_run(*nodes, status="running", ended_at=None, task_id=TASK_ID, **more)


def a_task(**more: Any) -> dict[str, Any]:
    flags = {"pause": False, "cancel": False, "asked_at": None, "asked_by": None}
    task = {"id": TASK_ID, "title": "A study", "status": "running", "run_id": RUN_ID, "control": flags, "waits_for": []}
    return task | {"company_id": "default", "project_id": "website", "archived": False} | more


def a_standing(**more: Any) -> dict[str, Any]:
    worker = {"id": "9c1e2b7a-0000-4000-8000-000000000000", "host": "here", "lease_until": "2025-03-01T12:00:10Z"}
    found = {"task": a_task(), "run": a_run(), "nodes": {"running": 1}, "attempts": 3, "worker": worker}
    return found | {"error": None, "cost_usd": "0.0031", "runtime": {}, "degraded": []} | more


@pytest.fixture
def api(gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGateway]:
    """One run of one task, running."""
    monkeypatch.setenv("FLUIDCREW_URL", gateway.url)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("USER", "ada")
    monkeypatch.setenv("LOGNAME", "ada")
    gateway.on("GET /runs", (200, {"items": [a_run(), a_run(id=OTHER_ID, title="Another")], "total": 2}))
    gateway.on("GET /tasks", (200, {"items": [a_task()], "total": 1}))
    gateway.on(f"GET /runs/{RUN_ID}", (200, a_run(control=CONTROL)))
    gateway.on(f"GET /tasks/{TASK_ID}", (200, a_task()))
    gateway.on(f"GET /tasks/{TASK_ID}/status", (200, a_standing()))
    gateway.on(f"GET /runs/{RUN_ID}/nodes", (200, {"items": [node("brief"), node("text")], "total": 2}))
    yield gateway
    monkeypatch.delenv("TZ")
    time.tzset()


def orders(gateway: FakeGateway, path: str) -> list[HttpRequest]:
    return [request for request in gateway.requests(path) if request.method != "GET"]


# what is meant --------------------------------------------------------------------------------------------------------


async def test_a_run_or_task_is_meant_by_its_id_by_how_it_begins_or_as_the_latest(api: FakeGateway) -> None:
    async with Gateway(api.url, KEY) as client:
        for wanted, kind in (("3f2a", "run"), (RUN_ID.upper(), "run"), ("88AA", "task"), (TASK_ID, "task")):
            assert (await meant(client, wanted)).kind == kind, wanted
        assert (await meant(client, "", last=True)).id == RUN_ID
        assert (await run_meant(client, "88aa")).id == RUN_ID, "a task stands for its latest run"


async def test_what_is_not_clear_is_said_with_what_there_is(api: FakeGateway) -> None:
    api.on("GET /tasks", (200, {"items": [a_task(run_id=None)], "total": 1}))
    async with Gateway(api.url, KEY) as client:
        for wanted, last, code, says in (
            ("3f2", False, Exit.REFUSED, "2 things begin with '3f2'"),
            ("abc", False, Exit.REFUSED, "begins with 'abc'"),
            (OTHER_ID.replace("3f2b", "ffff"), False, Exit.REFUSED, "no run and no task"),
            ("", False, Exit.USAGE, "or --last"),
            ("3f2a", True, Exit.USAGE, "give one of them"),
            ("88aa", False, Exit.REFUSED, "fluidcrew retry 88aa1122"),
        ):
            with pytest.raises(Halt) as halt:
                await run_meant(client, wanted, last=last)
            assert halt.value.code is code, wanted
            assert says in str(halt.value)
            if wanted == "3f2":
                assert halt.value.more == ("run 3f2a91c0 'A study'", "run 3f2b0000 'Another'")
        api.on("GET /runs", (200, {"items": [], "total": 0}))
        with pytest.raises(Halt, match="no runs yet"):
            await meant(client, "", last=True)


# orders ---------------------------------------------------------------------------------------------------------------


async def test_an_order_to_a_run_is_told_with_what_is_wanted_and_what_is(
    api: FakeGateway, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    api.on(f"PATCH /runs/{RUN_ID}", (200, {"status": "paused", "actual": "running", "control": CONTROL}))
    effective = CONTROL | {"effective_at": "2025-03-01T12:00:02Z", "finishing": 0}
    api.on(f"GET /runs/{RUN_ID}", (200, a_run(control=CONTROL)), (200, a_run(control=effective)))
    assert await steering.order("pause", "3f2a", last=False, interrupt=True) == Exit.OK
    (request,) = orders(api, f"/runs/{RUN_ID}")
    assert (json.loads(request.body), request.path) == ({"action": "pause"}, f"/runs/{RUN_ID}?mode=interrupt")
    assert (request.headers["x-actor"], bool(request.headers["idempotency-key"])) == ("ada", True)
    said = capsys.readouterr().out
    assert said == "run 3f2a91c0 'A study': pause requested 12:00:00 by ada, admin, paused 12:00:02\n"

    api.on(f"GET /runs/{RUN_ID}", (200, a_run(control=CONTROL)))
    monkeypatch.setattr(steering, "TAKES_EFFECT", 0)
    await steering.order("pause", "3f2a", last=False)
    first, hint = capsys.readouterr().out.splitlines()
    assert first.endswith("by ada, admin, 2 nodes finishing")
    assert hint.endswith("fluidcrew status 3f2a91c0")


async def test_an_order_to_a_task_sets_its_flags(api: FakeGateway, capsys: pytest.CaptureFixture[str]) -> None:
    flags = {"pause": True, "cancel": False, "asked_at": "2025-03-01T12:00:00Z", "asked_by": "ada, admin"}
    answer = {"task_id": TASK_ID, "run_id": RUN_ID, "status": "paused", "actual": "running", "control": flags}
    for action in ("pause", "resume", "cancel"):
        api.on(f"POST /tasks/{TASK_ID}/{action}", (200, answer))
        await steering.order(action, "88aa", last=False)
        assert len(orders(api, f"/tasks/{TASK_ID}/{action}")) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "task 88aa1122 'A study': flag pause set 12:00:00 by ada, admin: no new run starts"
    assert said[1].endswith("fluidcrew status 3f2a91c0")
    api.on(f"POST /tasks/{TASK_ID}/reset", (200, answer | {"control": flags | {"pause": False}, "run_id": None}))
    await steering.reset("3f2a", last=False, as_json=False)
    assert capsys.readouterr().out == "task 88aa1122 'A study': no flag is set: runs may start\n"


async def test_a_task_is_run_again_by_its_own_id_or_by_that_of_a_run(
    api: FakeGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    accepted = {"run_id": OTHER_ID, "task_id": TASK_ID, "status": "accepted", "location": f"/runs/{OTHER_ID}"}
    api.on(f"POST /tasks/{TASK_ID}/retry", (202, accepted))
    api.on(f"POST /tasks/{TASK_ID}/run", (202, accepted))
    for wanted, fresh in (("88aa", False), ("3f2a", True)):
        await steering.retry(wanted, last=False, fresh=fresh, watching=False, as_json=False)
        assert api.requests(f"/tasks/{TASK_ID}/retry")[-1].path.endswith(f"?fresh={str(fresh).lower()}")
    assert f"run {OTHER_ID} accepted" in capsys.readouterr().out
    api.on("GET /tasks", (200, {"items": [a_task(run_id=None)], "total": 1}))
    await steering.retry("88aa", last=False, fresh=False, watching=False, as_json=True)
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == accepted
    assert len(api.requests(f"/tasks/{TASK_ID}/run")) == 1, "what never ran is run for the first time"


async def test_a_node_is_skipped_by_its_run_and_key_by_its_id_or_with_all_that_failed(
    api: FakeGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = {"node_id": "node-text", "run_id": RUN_ID, "status_after": "skipped", "reopened": True}
    api.on("PATCH /nodes/node-text", (200, answer))
    await steering.skip("3f2a", "text", last=False, failed=False, as_json=False)
    await steering.skip("text", "", last=True, failed=False, as_json=False)
    assert [json.loads(r.body) for r in orders(api, "/nodes/node-text")] == [{"action": "skip"}] * 2
    assert "node text: skip requested; its run had ended and goes on" in capsys.readouterr().out
    api.on(f"GET /nodes/{OTHER_ID}", (200, {"id": OTHER_ID}))
    api.on(f"PATCH /nodes/{OTHER_ID}", (200, answer))
    await steering.skip(OTHER_ID, "", last=False, failed=False, as_json=True)
    assert json.loads(capsys.readouterr().out) == answer
    api.on(f"PATCH /runs/{RUN_ID}", (200, {"skipped_nodes": ["brief", "text"]}))
    await steering.skip("3f2a", "", last=False, failed=True, as_json=False)
    assert capsys.readouterr().out.startswith("skipped brief, text; the run goes on")
    for key, code in (("nono", Exit.REFUSED), ("", Exit.USAGE)):
        with pytest.raises(Halt, match="has: brief, text") as halt:
            await steering.skip("3f2a", key, last=False, failed=False, as_json=False)
        assert halt.value.code is code


# how things stand -----------------------------------------------------------------------------------------------------


async def test_the_status_of_a_run_is_a_block_that_fits_80_columns(
    api: FakeGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = node("bad", status="failed", error="the provider answered 400: " + "no " * 10)
    paused = node("held", status="paused", title="held")
    run = a_run(control=CONTROL, pause_reasons=["control"])
    run["dag"]["nodes"] += [failed, paused]
    api.on(f"GET /runs/{RUN_ID}", (200, run))
    await standing.status("3f2a", last=False, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == [
        "Run A study  running (pause requested)",
        f"{RUN_ID} · task 88aa1122",
        "pause requested 12:00:00 by ada, admin, 2 nodes finishing",
        "3 attempts · worker 9c1e2b7a on here, lease until 12:00:10",
    ]
    assert lines[4].startswith("● brief Do brief")
    assert "bad: the provider answered 400" in "\n".join(lines)
    assert any(line.startswith("paused: held; `fluidcrew why 3f2a91c0`") for line in lines)
    assert max(map(len, lines[:8])) <= 80


async def test_the_status_of_a_task_tells_its_flags_what_it_waits_for_and_its_run(
    api: FakeGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = {"pause": True, "cancel": False, "asked_at": "2025-03-01T12:00:00Z", "asked_by": "ada, admin"}
    task = a_task(control=flags, waits_for=[OTHER_ID], auto_start=True, priority=3, assignee="ada")
    api.on(f"GET /tasks/{TASK_ID}/status", (200, a_standing(task=task)))
    await standing.status("88aa", last=False, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:6] == [
        "Task A study  running",
        f"{TASK_ID} · project website · assignee ada · priority 3",
        "flag pause set 12:00:00 by ada, admin: no new run starts",
        "waits for 1 task: 3f2b0000",
        "starts by itself as soon as it may",
        "Run A study  running (pause requested)",
    ]
    never = a_standing(task=a_task(run_id=None, status="ready"), run=None)
    api.on(f"GET /tasks/{TASK_ID}/status", (200, never))
    await standing.status("88aa", last=False, as_json=False)
    assert capsys.readouterr().out.splitlines()[-1] == "it has never run"
    await standing.status("88aa", last=False, as_json=True)
    assert json.loads(capsys.readouterr().out) == never


async def test_what_waits_is_a_table_with_the_reason_the_time_and_the_release(
    api: FakeGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    def item(key: str, reason: str, **more: Any) -> dict[str, Any]:
        common = {"what": "node", "key": key, "status": "queued", "reason": reason, "until": None, "by": None, "on": []}
        return common | {"detail": f"why {key}", "release": f"what frees {key}"} | more

    items = [
        item("", "paused", what="run", detail="a pause was asked for"),
        item("a", "provider", until="2025-03-01T15:35:00Z"),
        *(item(f"n{n}", "dependency") for n in range(5)),
    ]
    found = {"run_id": RUN_ID, "status": "running", "wanted": "run", "items": items}
    api.on(f"GET /runs/{RUN_ID}/waiting", (200, found))
    await standing.why("88aa", last=False, everything=False, as_json=False)
    folded = capsys.readouterr().out
    assert folded.splitlines()[0] == "Run A study  running"
    for text in ("the run", "paused: a pause was asked for", "provider: why a", "15:35:00", "what frees a"):
        assert text in folded
    assert "5 more wait for other nodes: n0, n1, n2, n3, n4 (--all shows each)" in folded
    assert max(map(len, folded.splitlines())) <= 80
    await standing.why("88aa", last=False, everything=True, as_json=False)
    assert "what frees n4" in capsys.readouterr().out
    api.on(f"GET /runs/{RUN_ID}/waiting", (200, found | {"status": "completed", "items": []}))
    await standing.why("3f2a", last=False, everything=False, as_json=False)
    assert capsys.readouterr().out.splitlines()[1] == "nothing waits: it is completed"


async def test_providers_are_listed_with_what_is_wrong_and_until_when(
    api: FakeGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    circuit = {
        "provider": "openai",
        "model": "gpt",
        "state": "open",
        "reason": "rate limited",
        "calls": 40,
        "failures": 31,
        "since": "2025-03-01T15:30:00Z",
        "until": "2025-03-01T15:35:00Z",
        "parked_nodes": 7,
    }
    known = {"configured": True, "default": True, "base_url": None, "models": ["gpt"], "note": None}
    unset = known | {"name": "anthropic", "configured": False, "default": False, "note": "set ANTHROPIC_API_KEY"}
    items = [known | {"name": "openai", "circuits": [circuit]}, unset | {"circuits": []}]
    api.on("GET /providers", (200, {"items": items}))
    await standing.providers(as_json=False)
    said = capsys.readouterr().out
    for text in ("openai *", "not to be had", "40, 31 failed", "until 15:35:00", "7 nodes parked", "not configured"):
        assert text in " ".join(said.split()), text
    assert max(map(len, said.splitlines())) <= 80


# as processes ---------------------------------------------------------------------------------------------------------


async def test_a_refused_order_is_one_line_and_code_4_and_a_script_gets_json(cli: Cli, gateway: FakeGateway) -> None:
    gateway.on(f"GET /runs/{RUN_ID}", (200, a_run()))
    detail = "the run is completed; pause is not possible, nothing can be ordered any more"
    gateway.on(f"PATCH /runs/{RUN_ID}", (409, {"detail": detail}), (200, {"status": "paused", "control": CONTROL}))
    refused = await cli("pause", RUN_ID, FLUIDCREW_URL=gateway.url)
    assert (refused.code, refused.err) == (Exit.REFUSED, f"fluidcrew: {detail}\n")
    told = await cli("pause", RUN_ID, "--json", FLUIDCREW_URL=gateway.url)
    assert (told.code, json.loads(told.out)["control"]["finishing"]) == (Exit.OK, 2)


@pytest.mark.parametrize(
    ("code", "detail", "says"),
    [
        ("run_active", "it runs", "it runs: wait for its end (`fluidcrew show 3f2a91c0 --watch`)"),
        ("canceled", "canceled by ada (request " + "4f1c2b3a" * 4 + "); POST /x", "canceled by ada: `fluidcrew reset`"),
        ("waits_for_tasks", "it waits; GET /y", "it waits: `fluidcrew status` names them"),
    ],
)
async def test_a_refusal_names_the_command_that_helps(api: FakeGateway, code: str, detail: str, says: str) -> None:
    refused = {"code": code, "detail": detail, "details": {"run_id": RUN_ID}}
    api.on(f"POST /tasks/{TASK_ID}/retry", (409, refused))
    with pytest.raises(Halt) as halt:
        await steering.retry("88aa", last=False, fresh=False, watching=False, as_json=False)
    assert str(halt.value).startswith(says)


async def test_without_a_name_and_without_an_api_it_says_what_to_do(cli: Cli) -> None:
    nameless = await cli("why")
    assert (nameless.code, "--last" in nameless.err, len(nameless.err.splitlines())) == (Exit.USAGE, True, 1)
    away = await cli("providers", FLUIDCREW_URL="http://127.0.0.1:9")
    assert (away.code, "fluidcrew up" in away.err) == (Exit.UNREACHABLE, True)
