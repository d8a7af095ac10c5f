"""The commands as processes: what they print, with which code they end, and that bad input gets a line that helps."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest

from deploy.local.environment import CHECKOUT
from fluidcrew.exits import Exit
from tests.cli.conftest import Cli
from tests.cli.fake_gateway import KEY, RUN_ID, FakeGateway, event, finished_run, node

pytestmark = pytest.mark.asyncio

COMMANDS = (
    *("demo", "drill", "up", "down", "doctor", "run", "runs", "show", "tail", "bus", "dlq"),
    *("status", "why", "pause", "resume", "cancel", "skip", "retry", "reset", "providers"),
    *("export", "validate", "normalise"),
    *("review", "attempts", "qa", "incident", "quality", "policy"),
)
USAGE = {"prompt_tokens": 100, "completion_tokens": 20, "requests": 1, "cost_usd": "0.0012"}


def a_run(gateway: FakeGateway, status: str = "completed", failure: str = "") -> None:
    """A run of two nodes, planned while the client waits, told over a stream that breaks."""
    brief = node("brief", status="completed", usage=USAGE, duration_ms=1500, model="m-1")
    text = node("text", "brief", status=status, usage=USAGE, duration_ms=900, error=failure or None)
    queued = finished_run(node("brief"), node("text", "brief"), status="queued", started_at=None, ended_at=None)
    gateway.on("POST /tasks", (202, {"run_id": RUN_ID, "status": "accepted", "location": f"/runs/{RUN_ID}"}))
    ended = finished_run(brief, text, status=status, error=failure or None)
    gateway.on(f"GET /runs/{RUN_ID}", (404, {"detail": "no such run"}), (200, queued), (200, queued), (200, ended))
    gateway.on("GET /events", (200, {"items": []}))
    gateway.on("GET /nodes/node-text", (200, {"output": "# The answer\n\nis 42"}))
    gateway.break_after = 2
    gateway.facts = [
        event("RUN_QUEUED", 1, title="A study", nodes=2),
        event("RUN_STARTED", 2, title="A study"),
        event("NODE_STARTED", 3, key="brief", attempt=1),
        event("NODE_COMPLETED", 4, key="brief", attempt=1, duration_ms=1500, usage=USAGE, model="m-1"),
        event("NODE_STARTED", 5, key="text", attempt=1),
        event(f"NODE_{status.upper()}", 6, key="text", attempt=1, duration_ms=900, usage=USAGE, error=failure),
        event(f"RUN_{status.upper()}", 7, title="A study", reason=failure),
    ]


async def test_help_names_every_command_and_exit_code(cli: Cli) -> None:
    ended = await cli("--help")
    assert ended.code == Exit.OK
    for word in (*COMMANDS, "130"):
        assert f"\n  {word} " in ended.out or f"    {word} " in ended.out, word


@pytest.mark.parametrize("command", COMMANDS)
async def test_every_command_explains_itself(cli: Cli, command: str) -> None:
    ended = await cli(command, "--help")
    assert ended.code == Exit.OK
    assert ended.out.startswith("Usage:")
    assert ended.err == ""


async def test_help_needs_no_heavy_import(cli: Cli) -> None:
    code = "import sys; from fluidcrew.app import run; run(['--help']); print(sorted(sys.modules))"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, cwd=CHECKOUT, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    loaded = out.decode().splitlines()[-1]
    for heavy in ("httpx", "nats", "pydantic", "asyncpg", "faststream", "rich"):
        assert f"'{heavy}'" not in loaded


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["runz"], "Did you mean"),
        (["bus", "aply"], "Did you mean 'apply'"),
        (["runs", "--limit", "999"], "less than or equal to 200"),
        (["run", "x", "--gate", "maybe"], "'gate', 'observe', 'off'"),
        (["run"], "Give a title"),
        (["show"], "Missing argument"),
        (["up", "--scale", "executor"], "--scale executor=2"),
        (["tail", "--since", "yesterday"], "give 10m"),
        (["dlq", "list", "--owner", "nobody"], "gateway, planner, executor"),
    ],
)
async def test_a_wrong_command_line_is_one_line_and_code_2(cli: Cli, arguments: list[str], hint: str) -> None:
    ended = await cli(*arguments)
    assert ended.code == Exit.USAGE
    assert len(ended.err.splitlines()) == 1
    assert hint in ended.err


@pytest.mark.parametrize("arguments", [["runs"], ["show", RUN_ID], ["run", "x"], ["dlq", "list"]])
async def test_an_api_that_is_not_there_is_one_line_and_code_3(cli: Cli, arguments: list[str]) -> None:
    ended = await cli(*arguments, FLUIDCREW_URL="http://127.0.0.1:9")
    assert ended.code == Exit.UNREACHABLE
    assert (
        ended.err
        == "fluidcrew: no API answers at http://127.0.0.1:9: start it with `fluidcrew up`, or set FLUIDCREW_URL\n"
    )


@pytest.mark.parametrize("arguments", [["tail"], ["bus", "info"], ["bus", "verify"], ["bus", "apply"]])
async def test_a_bus_that_is_not_there_is_one_line_and_code_3(cli: Cli, arguments: list[str]) -> None:
    missing = await cli(*arguments)
    assert missing.code == Exit.UNREACHABLE
    assert "start one with `fluidcrew up`" in missing.err
    silent = await cli(*arguments, NATS_URL="nats://somebody:secret@127.0.0.1:9")
    assert silent.code == Exit.UNREACHABLE
    assert (
        silent.err
        == "fluidcrew: no bus answers at nats://127.0.0.1:9: start it with `fluidcrew up`, or correct NATS_URL\n"
    )


async def test_settings_that_make_no_sense_are_code_78(cli: Cli) -> None:
    ended = await cli("runs", PORT="eighty")
    assert ended.code == Exit.SETTINGS
    assert "PORT" in ended.err
    both = await cli("runs", API_KEY="a", API_KEY_FILE="/nowhere")
    assert both.code == Exit.SETTINGS


async def test_stopping_what_does_not_run_is_no_failure(cli: Cli) -> None:
    ended = await cli("down")
    assert (ended.code, ended.out) == (Exit.OK, "no stack is running\n")


async def test_a_run_is_accepted_and_its_name_given(cli: Cli, gateway: FakeGateway) -> None:
    a_run(gateway)
    ended = await cli("run", "A study", "--dry-run", "--model", "m-2", FLUIDCREW_URL=gateway.url)
    assert ended.code == Exit.OK
    assert (
        ended.out.replace(".venv/bin/", "") == f"run {RUN_ID} accepted; see it with: fluidcrew show 3f2a91c0 --watch\n"
    )
    (request,) = gateway.requests("/tasks")
    options = {"dry_run": True, "llm_model": "m-2", "use_supervisor": True}
    assert json.loads(request.body) == {"title": "A study", "task_spec": {}, "options": options}


async def test_a_watched_run_is_told_fact_by_fact_and_once(cli: Cli, gateway: FakeGateway) -> None:
    a_run(gateway)
    ended = await cli("run", "A study", "--watch", FLUIDCREW_URL=gateway.url)
    assert (ended.code, ended.err) == (Exit.OK, "")
    told = [line[9:].split()[0] for line in ended.out.splitlines() if line[2:3] == ":" or line.startswith(" " * 9)]
    facts = "run.queued run.started node.started node.completed node.started node.completed run.completed"
    assert told == facts.split()
    assert "completed  2/2 nodes · 240 tokens · $0.0024 · 3.0 s" in ended.out
    assert "\x1b" not in ended.out


async def test_a_watched_run_that_fails_is_code_1_and_says_why(cli: Cli, gateway: FakeGateway) -> None:
    a_run(gateway, "failed", "the provider refuses the key")
    ended = await cli("run", "A study", "--watch", FLUIDCREW_URL=gateway.url)
    assert ended.code == Exit.FAILED
    assert ended.out.splitlines()[-1] == "the provider refuses the key"


PROVIDER_AWAY = "nothing answers for openai: check OPENAI_BASE_URL"


def a_draft_that_is_tried_again(*facts: dict[str, object]) -> dict[str, object]:
    due = "2025-03-01T12:00:01.5Z"
    retried = [event("PLAN_RETRIED", n, attempt=n, error=PROVIDER_AWAY, due_at=due) for n in (1, 2)]
    return {"items": [*retried, *facts]}


async def test_a_plan_that_a_provider_delays_is_told_attempt_by_attempt_and_once(
    cli: Cli, gateway: FakeGateway
) -> None:
    a_run(gateway)
    # A run's own facts carry the same request id; they are told by the stream.
    of_the_run = event("RUN_QUEUED", 3, run_id=RUN_ID, title="A study", nodes=2)
    gateway.on("GET /events", (200, a_draft_that_is_tried_again(of_the_run)))
    ended = await cli("run", "A study", "--watch", FLUIDCREW_URL=gateway.url)
    assert ended.code == Exit.OK
    lines = ended.out.splitlines()
    told = [line for line in lines if "plan.retried" in line]
    assert [line.partition("plan.retried")[2].strip() for line in told] == [
        f"attempt {n} · {PROVIDER_AWAY} · next try in 1.5 s" for n in (1, 2)
    ]
    planned = next(line for line in lines if line.startswith("✓ Planned A study"))
    assert lines.index(planned) > lines.index(told[-1])
    assert sum("run.queued" in line for line in lines) == 1


async def test_a_provider_in_trouble_is_told_beside_the_answer_when_nobody_watches(
    cli: Cli, gateway: FakeGateway
) -> None:
    a_run(gateway)
    gateway.on("GET /events", (200, a_draft_that_is_tried_again()))
    gateway.on("POST /tasks", (503, {"detail": "not now"}), (202, {"run_id": RUN_ID, "status": "accepted"}))
    ended = await cli("run", "A study", "--json", FLUIDCREW_URL=gateway.url)
    assert (ended.code, json.loads(ended.out)["run_id"]) == (Exit.OK, RUN_ID)
    assert PROVIDER_AWAY in ended.err


async def test_a_draft_that_failed_for_good_is_one_reason_and_code_1_although_the_api_says_503(
    cli: Cli, gateway: FakeGateway
) -> None:
    a_run(gateway)
    gave_up = f"{PROVIDER_AWAY}; gave up after 6 attempts: check the provider"
    gateway.on("POST /tasks", (503, {"detail": gave_up}))
    empty: tuple[int, object] = (200, {"items": []})
    gateway.on("GET /events", empty, (200, {"items": [event("TASK_FAILED", 1, reason=gave_up, run_id=None)]}))
    ended = await cli("run", "A study", "--watch", FLUIDCREW_URL=gateway.url)
    assert (ended.code, ended.err) == (Exit.FAILED, f"fluidcrew: no run came of it: {gave_up}\n")


async def test_what_a_person_planned_is_started_not_planned(cli: Cli, gateway: FakeGateway, tmp_path: Path) -> None:
    a_run(gateway)
    (tmp_path / "plan.json").write_text('[{"id": "brief", "title": "Do brief"}]')
    ended = await cli("run", "Mine", "--file", "plan.json", "--watch", FLUIDCREW_URL=gateway.url)
    assert ended.out.startswith("✓ Started Mine  run 3f2a91c0")


async def test_a_plan_that_did_not_come_to_be_is_code_1_with_its_reason(cli: Cli, gateway: FakeGateway) -> None:
    a_run(gateway)
    gateway.on(f"GET /runs/{RUN_ID}", (404, {"detail": "no such run"}))
    gateway.on(
        "GET /events", (200, {"items": []}), (200, {"items": [event("TASK_FAILED", 1, reason="no model answers")]})
    )
    ended = await cli("run", "A study", "--watch", FLUIDCREW_URL=gateway.url)
    assert ended.code == Exit.FAILED
    assert ended.err == "fluidcrew: no run came of it: no model answers\n"


async def test_leaving_a_watched_run_does_not_end_it(cli: Cli, gateway: FakeGateway, tmp_path: Path) -> None:
    a_run(gateway)
    gateway.facts = gateway.facts[:3]
    gateway.break_after = None
    arguments = ["-m", "fluidcrew", "run", "A study", "--watch"]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        cwd=CHECKOUT,
        env={"FLUIDCREW_URL": gateway.url, "API_KEY": KEY, "FLUIDCREW_HOME": str(tmp_path)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    while b"node.started" not in await asyncio.wait_for(process.stdout.readline(), 60):
        pass
    process.send_signal(signal.SIGINT)
    out, err = await process.communicate()
    assert process.returncode == Exit.INTERRUPTED
    assert f"run {RUN_ID} goes on" in out.decode()
    assert err.decode() == "fluidcrew: interrupted\n"


async def test_the_predecessors_command_does_the_same(cli: Cli, gateway: FakeGateway) -> None:
    a_run(gateway)
    arguments = ["--use-supervisor", "--title", "Rapport 80p"]
    ended = await cli(*arguments, module="orchestrator.main", FLUIDCREW_URL=gateway.url)
    assert ended.code == Exit.OK
    (request,) = gateway.requests("/tasks")
    assert json.loads(request.body) == {"title": "Rapport 80p", "task_spec": {}, "options": {"use_supervisor": True}}
    undecided = await cli("--title", "Rapport 80p", module="orchestrator.main", FLUIDCREW_URL=gateway.url)
    assert undecided.code == Exit.USAGE
    assert "--use-supervisor" in undecided.err


async def test_a_plan_comes_from_a_file_or_from_standard_input(cli: Cli, gateway: FakeGateway, tmp_path: Path) -> None:
    a_run(gateway)
    plan = [{"id": "a", "title": "Say hello"}]
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    assert (await cli("run", "x", "--file", "plan.json", FLUIDCREW_URL=gateway.url)).code == Exit.OK
    piped = json.dumps({"title": "From the pipe", "plan": plan}).encode()
    assert (await cli("run", "--file", "-", stdin=piped, FLUIDCREW_URL=gateway.url)).code == Exit.OK
    bodies = [json.loads(request.body) for request in gateway.requests("/tasks")]
    assert bodies == [{"title": "x", "task": plan}, {"title": "From the pipe", "task": {"plan": plan}}]


async def test_a_broken_file_is_named_with_line_and_column(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text('[\n  {"id": }\n]')
    ended = await cli("run", "x", "--file", "plan.json")
    assert ended.code == Exit.USAGE
    assert ended.err == "fluidcrew: plan.json:2:10: this is no JSON (Expecting value)\n"


async def test_a_refused_plan_is_code_4_with_every_mistake_on_a_line(cli: Cli, gateway: FakeGateway) -> None:
    mistakes = [{"loc": [], "msg": "node 'a' depends on 'x'"}, {"loc": [], "msg": "the ids are not unique: b"}]
    gateway.on("POST /tasks", (422, {"detail": mistakes}))
    ended = await cli("run", "x", FLUIDCREW_URL=gateway.url)
    assert ended.code == Exit.REFUSED
    assert ended.err.splitlines()[1:] == ["  node 'a' depends on 'x'", "  the ids are not unique: b"]


async def test_runs_are_listed_and_one_is_shown_by_how_its_id_begins(cli: Cli, gateway: FakeGateway) -> None:
    run = finished_run(node("brief", status="completed", usage=USAGE, duration_ms=1500))
    gateway.on("GET /runs", (200, {"items": [run], "total": 30}))
    gateway.on(f"GET /runs/{RUN_ID}", (200, run))
    gateway.on("GET /nodes/node-brief", (200, {"output": "# The answer\n\nis 42"}))
    listed = await cli("runs", FLUIDCREW_URL=gateway.url)
    assert listed.out.splitlines()[1].split()[:4] == ["3f2a91c0", "A", "study", "completed"]
    assert "the newest 1 of 30" in listed.out
    shown = await cli("show", "3f2a", FLUIDCREW_URL=gateway.url)
    assert "✓ Do brief  completed  1.5 s  120 tokens  $0.0012" in shown.out
    result = await cli("show", "3f2a", "--result", FLUIDCREW_URL=gateway.url)
    assert result.out == "# The answer\n\nis 42\n"
    unknown = await cli("show", "ffff", FLUIDCREW_URL=gateway.url)
    assert unknown.code == Exit.REFUSED


async def test_json_is_the_apis_own(cli: Cli, gateway: FakeGateway) -> None:
    run = finished_run(node("brief", status="completed"))
    gateway.on("GET /runs", (200, {"items": [run], "total": 1}))
    gateway.on(f"GET /runs/{RUN_ID}", (200, run))
    assert json.loads((await cli("runs", "--json", FLUIDCREW_URL=gateway.url)).out) == [run]
    assert json.loads((await cli("show", RUN_ID, "--json", FLUIDCREW_URL=gateway.url)).out) == run


async def test_dead_letters_are_listed_shown_and_replayed_without_knowing_whose_they_are(
    cli: Cli, gateway: FakeGateway
) -> None:
    letter = {"id": RUN_ID, "durable": "planner-runs", "subject": "evt.x", "reason": "no such\ntask", "attempts": 5}
    letter |= {"created_at": "2025-03-01T12:00:00Z", "replayed_at": None, "headers": {}, "body": "{}"}
    for owner in ("gateway", "executor", "feedback", "publisher", "rag"):
        gateway.on(f"GET /admin/dead-letters/{owner}", (200, {"items": [], "total": 0}))
    gateway.on("GET /admin/dead-letters/planner", (200, {"items": [letter], "total": 1}))
    gateway.on(f"GET /admin/dead-letters/planner/{RUN_ID}", (200, letter))
    answer = {"id": RUN_ID, "message_id": "m2", "outcome": "handled"}
    gateway.on(f"POST /admin/dead-letters/planner/{RUN_ID}/replay", (200, answer))
    listed = await cli("dlq", "list", FLUIDCREW_URL=gateway.url)
    assert "planner-runs" in listed.out
    assert "no such task" in listed.out
    assert json.loads((await cli("dlq", "show", RUN_ID, FLUIDCREW_URL=gateway.url)).out)["owner"] == "planner"
    replayed = await cli("dlq", "replay", RUN_ID, FLUIDCREW_URL=gateway.url)
    assert replayed.out == "planner-runs handled it again as message m2: handled\n"
    unknown = await cli("dlq", "show", "0" * 8, FLUIDCREW_URL=gateway.url)
    assert (unknown.code, "fluidcrew dlq list" in unknown.err) == (Exit.REFUSED, True)


async def test_the_doctor_lists_what_it_looked_at_and_fails_with_the_fix(cli: Cli) -> None:
    ended = await cli("doctor", LLM_DEFAULT_PROVIDER="oracle", PORT="18999", PREVIEW_PORT="18998")
    assert ended.code == Exit.NOT_READY
    assert "FAILED  provider" in ended.out
    assert "fix: set LLM_DEFAULT_PROVIDER to demo" in ended.out
    refused = await cli("up", LLM_DEFAULT_PROVIDER="oracle", PORT="18999", PREVIEW_PORT="18998")
    assert refused.code == Exit.NOT_READY
    assert "set LLM_DEFAULT_PROVIDER to demo" in refused.err


async def test_a_bug_is_one_line_unless_somebody_wants_to_see_it(cli: Cli, gateway: FakeGateway) -> None:
    gateway.on("GET /runs", (200, {"items": [{"id": "x"}], "total": 1}))
    ended = await cli("runs", FLUIDCREW_URL=gateway.url)
    assert ended.code == Exit.INTERNAL
    assert len(ended.err.splitlines()) == 1
    assert "Traceback" in (await cli("runs", FLUIDCREW_URL=gateway.url, FLUIDCREW_DEBUG="1")).err
