"""The inbox and its commands: what waits, what is sent, what somebody else's verdict does; reports and policies."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from fluidcrew import quality, reviewing
from fluidcrew.client import Gateway
from fluidcrew.exits import Exit, Halt
from fluidcrew.inbox import Inbox
from fluidcrew.naming import held_meant
from fluidcrew.render.screen import Screen
from tests.cli.conftest import Cli
from tests.cli.fake_gateway import KEY, RUN_ID, FakeGateway, event, finished_run, node

DRAFT, OTHER, SEEN = (f"{n}b1f0000-5b1d-4c3e-9a77-0c6f2b1d8e90" for n in ("4", "5", "6"))
VERDICT = {
    "feedback_id": SEEN,
    "attempt": 2,
    "effect": "hold",
    "decision": "revise",
    "critical": True,
    "score": 35,
    "source": "auto",
    "reviewer": "demo/reviewer",
    "critique": "Format JSON invalide",
    "at": "2025-03-01T12:00:00Z",
}
CONTROLLED = {"node_id": DRAFT, "run_id": RUN_ID, "status_after": "skipped", "actual": "paused"}
AGAIN = {
    "node_id": DRAFT,
    "run_id": RUN_ID,
    "attempt": 3,
    "actual": "paused",
    "status_after": "queued",
    "reopened": True,
}


def held(id: str = DRAFT, key: str = "draft", **more: Any) -> dict[str, Any]:
    found = {"node_id": id, "run_id": RUN_ID, "run_title": "A study", "key": key, "title": f"Do {key}"}
    found |= {"status": "paused", "attempt": 2, "role": "writer", "agent_id": None, "verdict": VERDICT}
    return found | {"output_preview": "{'a'", "since": "2025-03-01T12:00:00Z", "descendants": ["review", "end"]} | more


def given(**more: Any) -> dict[str, Any]:
    said = {"id": OTHER, "run_id": RUN_ID, "node_id": DRAFT, "attempt": 2, "score": 100, "decision": "accept"}
    return said | {"critical": False, "source": "human", "reviewer": "ada", "comment": None} | more


@pytest.fixture
def api(gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGateway]:
    """One node that waits for a word."""
    monkeypatch.setenv("FLUIDCREW_URL", gateway.url)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("USER", "ada")
    monkeypatch.setenv("LOGNAME", "ada")
    attempt = node("draft", status="paused") | {"id": DRAFT, "run_id": RUN_ID, "attempt": 2, "verdict": VERDICT}
    gateway.on("GET /reviews", (200, {"items": [held()], "total": 1}))
    gateway.on("GET /runs", (200, {"items": [finished_run(attempt, status="running")], "total": 1}))
    gateway.on(f"GET /runs/{RUN_ID}/nodes", (200, {"items": [attempt], "total": 1}))
    gateway.on(f"GET /nodes/{DRAFT}", (200, attempt | {"output": "{'a': 1"}))
    gateway.on("POST /feedbacks", (201, given()))
    gateway.on(f"POST /nodes/{DRAFT}/rerun", (202, AGAIN))
    gateway.on(f"PATCH /nodes/{DRAFT}", (200, CONTROLLED))
    yield gateway
    monkeypatch.delenv("TZ")
    time.tzset()


def sent(gateway: FakeGateway, path: str) -> list[dict[str, Any]]:
    return [json.loads(request.body) for request in gateway.requests(path) if request.body]


# what is meant --------------------------------------------------------------------------------------------------------


async def test_a_node_is_meant_by_how_its_id_begins_by_its_key_or_by_its_run(api: FakeGateway) -> None:
    async with Gateway(api.url, KEY) as client:
        for wanted, key in (("4b1f", ""), ("4B1F", ""), ("draft", ""), (DRAFT, ""), ("3f2a", "draft")):
            assert await held_meant(client, wanted, key, last=False) == DRAFT, wanted
        assert await held_meant(client, "draft", "", last=True) == DRAFT
        api.on("GET /reviews", (200, {"items": [held(), held(OTHER)], "total": 2}))
        with pytest.raises(Halt, match="2 nodes are meant") as halt:
            await held_meant(client, "draft", "", last=False)
        assert halt.value.more[1] == "node 5b1f0000 draft of 'A study'"
        assert await held_meant(client, "5b", "", last=False) == OTHER


# without a terminal ---------------------------------------------------------------------------------------------------


async def test_what_waits_is_listed_with_score_and_critique(cli: Cli, api: FakeGateway) -> None:
    for command in (("review",), ("review", "ls")):
        listed = await cli(*command, FLUIDCREW_URL=api.url, TZ="UTC", COLUMNS="120")
        assert (listed.code, listed.err) == (0, "")
        _, row, why, hint = listed.out.splitlines()
        assert (row.split()[:2], row.rstrip().endswith("draft · A study")) == (["4b1f0000", "35"], True)
        assert why.strip() == "Format JSON invalide"
        assert "review accept|reject|rerun|skip NODE" in hint
    api.on("GET /reviews", (200, {"items": [], "total": 0}))
    assert (await cli("review", FLUIDCREW_URL=api.url)).out == "nothing waits for a verdict\n"
    as_json = await cli("review", "ls", "--json", "--company", "acme", FLUIDCREW_URL=api.url)
    assert (as_json.code, "/companies/acme/reviews" in as_json.err) == (4, True)


async def test_a_verdict_says_what_was_seen_and_who_gives_it(
    api: FakeGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    judged = {"last": False, "comment": "good", "seen": None, "as_json": False}
    assert await reviewing.judge("4b1f", "", 90, **judged) == Exit.OK  # type: ignore[arg-type]
    (request,) = api.requests("/feedbacks")
    assert json.loads(request.body) == {
        "run_id": RUN_ID,
        "node_id": DRAFT,
        "attempt": 2,
        "source": "human",
        "reviewer": "ada",
        "score": 90,
        "comment": "good",
        "seen": SEEN,
    }
    assert len(request.headers["x-request-id"]) == 32
    assert request.headers["idempotency-key"]
    said = capsys.readouterr().out
    assert said.startswith("node draft: score 100, accept; see it with: ")
    await reviewing.judge("4b1f", "", 90, **judged | {"seen": OTHER})  # type: ignore[arg-type]
    assert sent(api, "/feedbacks")[-1]["seen"] == OTHER


async def test_a_verdict_that_somebody_else_gave_first_is_shown(cli: Cli, api: FakeGateway) -> None:
    current = given(score=80, reviewer="grace", comment="well done", created_at="2025-03-01T12:03:00Z")
    taken = {"detail": "somebody has judged it; read it", "code": "verdict_taken", "details": {"current": current}}
    api.on("POST /feedbacks", (409, taken))
    refused = await cli("review", "reject", "draft", "--comment", "no", FLUIDCREW_URL=api.url, TZ="UTC")
    assert refused.code == Exit.REFUSED
    assert refused.err.splitlines() == [
        "fluidcrew: somebody has judged it: look at that verdict, then decide again",
        "  in force is: score 80, accept, by grace, 12:03:00: well done",
    ]


async def test_a_node_is_run_again_or_skipped(cli: Cli, api: FakeGateway) -> None:
    options = ("--instructions", "Answer in JSON", "--prompt", "p", "--model", "m", "--keep-descendants")
    again = await cli("review", "rerun", "draft", *options, FLUIDCREW_URL=api.url)
    assert again.out.startswith("node draft: attempt 3 follows; its run had ended and goes on; see it with:")
    assert sent(api, f"/nodes/{DRAFT}/rerun") == [
        {"instructions": "Answer in JSON", "prompt": "p", "llm_model": "m", "keep_descendants": True}
    ]
    skipped = await cli("review", "skip", "draft", FLUIDCREW_URL=api.url)
    assert (skipped.code, sent(api, f"/nodes/{DRAFT}")) == (0, [{"action": "skip"}])
    too_high = await cli("review", "accept", "draft", "--score", "101", FLUIDCREW_URL=api.url)
    assert (too_high.code, "--score" in too_high.err) == (Exit.USAGE, True)


# on a terminal --------------------------------------------------------------------------------------------------------


async def opened(*answers: str, run: str = "") -> tuple[int, str]:
    """The code and all that was shown; whoever asks after the last answer finds nobody."""
    stream, left = io.StringIO(), list(answers)

    def ask(question: str) -> str:
        stream.write(f"{question}\n")
        if not left:
            raise EOFError
        return left.pop(0)

    inbox = Inbox(Screen(file=stream, width=100, highlight=False, markup=False, emoji=False), ask, run)
    return await asyncio.to_thread(inbox.open), stream.getvalue()


async def test_an_inbox_shows_a_node_with_all_that_deciding_needs_and_accepts_it(api: FakeGateway) -> None:
    api.on("GET /reviews", (200, {"items": [held()], "total": 1}), (200, {"items": [], "total": 0}))
    code, shown = await opened("1", "output", "accept", "150", "85", "well done")
    assert code == Exit.OK
    for words in (
        "draft Do draft  paused",
        "run 3f2a91c0 A study · attempt 2 · writer",
        "score 35, revise, automatic, 12:00:00: Format JSON invalide",
        "{'a'",
        "for it wait: review, end",
        "{'a': 1",
        "'150' is no whole number from 0 to 100",
        "draft: score 100, accept",
        "nothing waits for a verdict",
    ):
        assert words in shown
    (body,) = sent(api, "/feedbacks")
    assert (body["score"], body["comment"], body["seen"]) == (85, "well done", SEEN)


async def test_an_inbox_rejects_runs_again_and_skips(api: FakeGateway) -> None:
    code, shown = await opened("1", "reject", "", "", "1", "rerun", "Answer in JSON", "", "1", "skip", "quit")
    assert (code, sent(api, "/feedbacks")[0]["score"]) == (Exit.OK, 0)
    assert sent(api, f"/nodes/{DRAFT}/rerun") == [{"instructions": "Answer in JSON"}]
    assert sent(api, f"/nodes/{DRAFT}") == [{"action": "skip"}]
    assert "draft: attempt 3 follows" in shown


async def test_an_inbox_shows_the_verdict_that_came_first_and_goes_on(api: FakeGateway) -> None:
    current = given(score=80, reviewer="grace", comment="well done")
    taken = {"detail": "somebody has judged it", "code": "verdict_taken", "details": {"current": current}}
    api.on("POST /feedbacks", (409, taken))
    code, shown = await opened("1", "accept", "", "", "")
    assert "in force is: score 80, accept, by grace: well done" in shown
    assert (code, shown.count("which one?")) == (Exit.OK, 3), "and looks again"


async def test_an_inbox_can_be_left_at_any_question_and_asks_again_what_it_did_not_understand(
    api: FakeGateway,
) -> None:
    for answers in (("quit",), ("1", "Quit"), ("1", "accept", "quit"), ("1", "rerun", "quit"), (), ("1", "next")):
        assert (await opened(*answers))[0] == Exit.OK, answers
    assert sent(api, "/feedbacks") == []
    _, shown = await opened("7", "²", "1", "x", "quit")
    assert "'7' is none of 1 to 1" in shown
    assert "'²' is none of 1 to 1" in shown
    assert "'x' is none of accept, reject, rerun, skip, output, attempts, next, quit: nothing was done" in shown


@pytest.mark.parametrize("key", ["a", "y", "", "accept!", "acc", "r", "s", "g", "1"])
async def test_a_key_hit_by_accident_decides_nothing(api: FakeGateway, key: str) -> None:
    code, shown = await opened("1", key, "quit")
    assert (code, f"{key!r} is none of accept, reject" in shown) == (Exit.OK, True)
    for path in ("/feedbacks", f"/nodes/{DRAFT}/rerun", f"/nodes/{DRAFT}"):
        assert sent(api, path) == []


# reports --------------------------------------------------------------------------------------------------------------


async def test_attempts_are_compared(cli: Cli, api: FakeGateway) -> None:
    guidance = {"critique": "Format JSON invalide", "instructions": "Answer in JSON", "of_attempt": 1, "by": "ada"}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "cost_usd": None}
    first = {"number": 1, "status": "succeeded", "score": 35, "decision": "revise", "source": "auto", "usage": usage}
    second = first | {"number": 2, "score": 90, "decision": "accept", "source": "human", "reviewer": "ada"}
    second |= {"guidance": guidance, "diff": "--- 1\n+++ 2\n@@ -1 +1 @@\n-{'a'\n+{}", "comment": "well done"}
    found = {"node_id": DRAFT, "run_id": RUN_ID, "key": "draft", "current": 2, "items": [first, second], "degraded": []}
    api.on(f"GET /nodes/{DRAFT}/attempts", (200, found))
    shown = await cli("attempts", "3f2a", "draft", FLUIDCREW_URL=api.url)
    for words in (
        "draft  2 attempts",
        "cost unknown",
        "accept, human",
        "2. critique: Format JSON invalide",
        "2. instructions: Answer in JSON",
        "2. verdict: score 90, accept, by ada: well done",
        "what attempt 2 changed",
        "\n+{}",
    ):
        assert words in shown.out
    api.on(f"GET /nodes/{DRAFT}/attempts", (200, found | {"degraded": ["feedbacks"]}))
    assert "scores are missing" in (await cli("attempts", "draft", FLUIDCREW_URL=api.url)).out


async def test_reports_are_markdown_for_pipes_and_json_when_asked(cli: Cli, api: FakeGateway) -> None:
    for command, path in (("qa", "qa-report"), ("incident", "incident")):
        api.on(f"GET /runs/{RUN_ID}/{path}", (200, {"run_id": RUN_ID}))
        as_json = await cli(command, "--last", "--json", FLUIDCREW_URL=api.url)
        assert json.loads(as_json.out) == {"run_id": RUN_ID}
        api.reports[f"/runs/{RUN_ID}/{path}"] = "# Report\n\n| a | b |\n"
        piped = await cli(command, "3f2a", FLUIDCREW_URL=api.url)
        assert (piped.code, piped.out) == (0, "# Report\n\n| a | b |\n\n")
        assert api.requests(f"/runs/{RUN_ID}/{path}")[-1].headers["accept"] == "text/markdown"


async def test_quality_is_a_row_for_each(api: FakeGateway, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"name": "writer", "bucket": "2025-03-01T00:00:00Z", "reviews": 1200, "average_score": 71.46}
    row |= {"accepted_first_time": 0.25, "critical": 3, "human_reviews": 0}
    api.on("GET /quality", (200, {"by": "role", "items": [row, row | {"name": None}]}))
    await quality.over_time("role", "day", "7d", None, as_json=False)
    _, first, second = capsys.readouterr().out.splitlines()
    assert first.split() == ["writer", "2025-03-01", "1,200", "71.5", "25", "%", "3", "0"]
    assert second.startswith("none")
    asked = api.requests("/quality")[-1].path
    assert ("by=role&bucket=day" in asked, "ts_from=20" in asked) == (True, True)
    with pytest.raises(Halt, match="give 7d"):
        await quality.over_time("role", None, "4711", None, as_json=False)


async def test_policies_are_set_listed_and_removed(cli: Cli, api: FakeGateway) -> None:
    policy = {"scope": "agent", "scope_id": "ada b", "critical_threshold": 70, "auto_revise": None, "set_by": "ada"}
    api.on("PUT /feedback-policies/agent/ada%20b", (200, policy))
    api.on("DELETE /feedback-policies/agent/ada%20b", (200, {"removed": policy}))
    api.on("GET /feedback-policies", (200, {"items": [policy], "total": 1}))
    put = await cli("policy", "set", "agent", "ada b", "--threshold", "70", FLUIDCREW_URL=api.url)
    assert put.out.startswith("agent ada b: critical below 70, – revisions by itself")
    assert sent(api, "/feedback-policies/agent/ada%20b") == [{"critical_threshold": 70}]
    assert "agent ada b" in (await cli("policy", "ls", FLUIDCREW_URL=api.url)).out
    api.on("GET /feedback-policies/agent/ada%20b", (200, policy))
    shown = await cli("policy", "show", "agent", "ada b", FLUIDCREW_URL=api.url)
    assert shown.out.startswith("agent ada b: critical below 70")
    assert (await cli("policy", "rm", "agent", "ada b", FLUIDCREW_URL=api.url)).code == 0
    nothing = await cli("policy", "set", "agent", "ada", FLUIDCREW_URL=api.url)
    assert (nothing.code, "--auto-revise" in nothing.err) == (Exit.USAGE, True)


async def test_runs_and_their_standing_say_what_needs_attention(cli: Cli, api: FakeGateway) -> None:
    nodes = [
        node("draft", status="paused") | {"id": DRAFT, "attempt": 2, "verdict": VERDICT, "pause_reasons": ["verdict"]},
        node("end", "draft"),
        node("brief", status="completed")
        | {"attempt": 1, "verdict": VERDICT | {"attempt": 1, "effect": "release", "score": 82}},
    ]
    run = finished_run(*nodes, status="running", ended_at=None, needs_attention=True, task_id=None)
    api.on("GET /runs", (200, {"items": [run], "total": 1}))
    api.on(f"GET /runs/{RUN_ID}", (200, run))
    assert "running  needs attention" in (await cli("runs", FLUIDCREW_URL=api.url)).out
    for command in (("show", "3f2a"), ("status", "3f2a")):
        shown = (await cli(*command, FLUIDCREW_URL=api.url)).out
        for words in (
            "Run A study  running  needs attention",
            "paused, attempt 2, 35/100",
            "completed, 82/100",
            "draft (35/100): Format JSON invalide",
            "it waits for your word:",
        ):
            assert words in shown, command
        assert "says by whom" not in shown, "nobody paused it"
    api.on("GET /runs", (200, {"items": [run | {"status": "completed"}], "total": 1}))
    api.on(f"GET /runs/{RUN_ID}/waiting", (200, {"run_id": RUN_ID, "status": "completed", "items": []}))
    said = (await cli("why", "3f2a", FLUIDCREW_URL=api.url)).out
    assert "nothing waits: it is completed\none of its results was found wanting; it waits for your word:" in said


async def test_whoever_watches_is_told_that_a_node_waits_for_a_word(cli: Cli, api: FakeGateway) -> None:
    running = finished_run(node("draft", status="running") | {"attempt": 1}, status="running", ended_at=None)
    completed = finished_run(node("draft", status="completed") | {"attempt": 1})
    api.on(f"GET /runs/{RUN_ID}", (200, running), (200, running), (200, completed))
    of = {"key": "draft", "attempt": 1}
    api.facts = [
        event("NODE_REVIEWING", 1, **of, gate="gate"),
        event("VERDICT_GIVEN", 2, **of, effect="hold", score=35, source="auto", version=1),
        event("NODE_PAUSED", 3, **of, reasons=["verdict"]),
        event("NODE_COMPLETED", 4, **of, score=90, released_by="ada"),
        event("RUN_COMPLETED", 5),
    ]
    shown = await cli("show", RUN_ID, "--watch", FLUIDCREW_URL=api.url, TZ="UTC")
    lines = shown.out.splitlines()
    assert [line[9:].split("  ")[0] for line in lines[:3]] == ["node.reviewing", "verdict.given", "node.paused"]
    assert lines[3] == "it waits for your word: .venv/bin/fluidcrew review"
    assert lines[4].endswith("score 90 · released by ada")
