"""Feedback that stops the line, on the whole stack: a low score pauses, a person sees why, only what must be is redone."""

from __future__ import annotations

import asyncio
import json
import os
import pty
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from chassis.testing.eventually import eventually
from chassis.testing.fake_behaviour import Behaviour
from tests.system.api import Api, Json, levels
from tests.system.defaults import API_KEY, INHERITED
from tests.system.ledger import Ledger, Plan
from tests.system.typed import COMMAND, said_by
from tests.system.world import World

BAD, GOOD = "{'half", '{"whole": true}'
AS_JSON = {"params": {"output_format": "json"}}


def with_a_bad_draft() -> Plan:
    plan = Plan().node("draft", say=BAD, **AS_JSON).node("after", "draft")
    return plan.node("other").node("beside", "other")


def corrected(plan: Plan, key: str = "draft") -> str:
    return f"mark:{plan.name}/{key} say:{GOOD}"


async def held(api: Api, run_id: str, *keys: str) -> dict[str, Json]:
    """Its nodes once these wait for a person, and everything else has ended that can."""
    found: dict[str, Json] = {}

    async def waits() -> bool:
        found.update(await api.nodes(run_id))
        still = {node["status"] for node in found.values()} & {"running", "reviewing"}
        return not still and all(found[key]["status"] == "paused" for key in keys)

    await eventually(waits, interval=0.1, what=f"{keys} of {run_id} held")
    return found


async def judged(api: Api, node: Json, score: int, expect: int = 201, key: str = "", **more: Any) -> Json:
    body = {"run_id": node["run_id"], "node_id": node["id"], "source": "human", "score": score, **more}
    answer: Json = await api.post(
        "/feedbacks",
        body,
        expect=expect,
        **{"X-Request-ID": f"demo-{uuid4().hex[:8]}", "Idempotency-Key": key or uuid4().hex},
    )
    return answer


def kept(node: Json) -> tuple[Any, ...]:
    return node["status"], node["attempt"], node["checksum"], node["usage"]["prompt_tokens"]


async def test_a_low_score_pauses_a_guided_rerun_mends_it_and_the_run_completes(api: Api, ledger: Ledger) -> None:
    plan = with_a_bad_draft()
    run_id = await api.launch("The seeds' scenario", plan.nodes, gate="gate")
    nodes = await held(api, run_id, "draft")
    draft = nodes["draft"]
    assert {key: node["status"] for key, node in nodes.items()} == {
        "draft": "paused",
        "after": "queued",
        "other": "completed",
        "beside": "completed",
    }
    assert await ledger.counts(plan) == {"draft": 2, "other": 1, "beside": 1}, "it was revised once, by itself"
    revision = (await ledger.of_node(plan, "draft"))[1].user
    assert "is not valid json" in revision, "the author was told what was wrong"
    run = await api.run(run_id)
    assert (run["status"], run["needs_attention"]) == ("running", True)
    assert (draft["verdict"]["effect"], draft["verdict"]["attempt"], draft["pause_reasons"]) == ("hold", 2, ["verdict"])
    assert (await api.get("/runs", title_contains="The seeds", limit=1))["items"][0]["needs_attention"] is True

    (waits,) = (await api.get("/reviews", run_id=run_id))["items"]
    assert (waits["key"], waits["descendants"], waits["verdict"]["score"] < 60) == ("draft", ["after"], True)
    reasons = {item["key"]: item["reason"] for item in (await api.get(f"/runs/{run_id}/waiting"))["items"]}
    assert reasons == {"draft": "verdict", "after": "dependency"}
    incident = await api.get(f"/runs/{run_id}/incident")
    assert [node["key"] for node in incident["failed_nodes"]] == ["draft"]
    assert "FEEDBACK_CRITICAL" in {signal["kind"] for signal in incident["signals"]}

    seen = draft["verdict"]["feedback_id"]
    said = {"comment": "Format JSON invalide", "reviewer": "ada", "seen": seen}
    ada, repeated = [await judged(api, draft, 35, key=f"once {plan.name}", **said) for _ in range(2)]
    assert ada == repeated, "the same key is the same verdict"
    assert (ada["critical"], ada["in_force"], ada["attempt"]) == (True, True, 2)
    taken = await judged(api, draft, 90, expect=409, seen=seen)
    assert (taken["code"], taken["details"]["current"]["id"]) == ("verdict_taken", ada["id"])
    assert (await held(api, run_id, "draft"))["draft"]["attempt"] == 2

    again = await api.post(f"/nodes/{draft['id']}/rerun", {"prompt": corrected(plan)}, expect=202)
    assert again["attempt"] == 3
    done = {node["key"]: node for node in (await api.ended(run_id))["dag"]["nodes"]}
    assert "Format JSON invalide" in (await ledger.of_node(plan, "draft"))[2].user
    assert await ledger.counts(plan) == {"draft": 3, "after": 1, "other": 1, "beside": 1}
    assert [kept(done[key]) for key in ("other", "beside")] == [kept(nodes[key]) for key in ("other", "beside")]
    assert (done["draft"]["verdict"]["effect"], (await api.run(run_id))["needs_attention"]) == ("release", False)
    assert [f["score"] for f in done["draft"]["feedbacks"]][2] == 35

    attempts = await api.get(f"/nodes/{draft['id']}/attempts")
    assert [(each["source"], each["score"] >= 60) for each in attempts["items"]] == [
        *(("auto", False), ("human", False), ("auto", True))
    ]
    assert f"+{GOOD}" in attempts["items"][2]["diff"]
    report = await api.get(f"/runs/{run_id}/qa-report")
    by_key = {node["key"]: node for node in report["nodes"]}
    assert (by_key["draft"]["attempt"], by_key["draft"]["decision"], report["human_reviews"]) == (3, "accept", 1)
    told = levels(await api.told_all(run_id))
    assert {"NODE_REVIEWING", "FEEDBACK_GIVEN", "FEEDBACK_CRITICAL", "VERDICT_GIVEN", "NODE_RERUN_ASKED"} <= set(told)


async def test_a_critical_score_on_a_finished_run_is_shown_and_a_rerun_reopens_it(api: Api, ledger: Ledger) -> None:
    plan = Plan().node("draft").node("after", "draft").node("other")
    run_id = await api.launch("Found wanting later", plan.nodes, gate="gate")
    done = {node["key"]: node for node in (await api.ended(run_id))["dag"]["nodes"]}
    await judged(api, done["draft"], 10, comment="not what was asked")

    async def noticed() -> bool:
        return bool((await api.run(run_id))["needs_attention"])

    await eventually(noticed, what="needs_attention")
    assert (await api.run(run_id))["status"] == "completed", "what has ended stays so until somebody acts"
    again = await api.post(f"/nodes/{done['draft']['id']}/rerun", {"instructions": "Answer what was asked"}, expect=202)
    assert (again["reopened"], again["attempt"]) == (True, 2)
    await ledger.until_done(plan, 5)
    ended = {node["key"]: node for node in (await api.ended(run_id))["dag"]["nodes"]}
    assert await ledger.counts(plan) == {"draft": 2, "after": 2, "other": 1}
    assert kept(ended["other"]) == kept(done["other"])
    told = (await ledger.of_node(plan, "draft"))[1].user
    assert "not what was asked" in told
    assert "Answer what was asked" in told
    assert (await api.run(run_id))["needs_attention"] is False


@pytest.mark.parametrize("gate", ["observe", "off"])
async def test_a_gate_that_only_observes_or_is_off_holds_nothing_back(api: Api, gate: str) -> None:
    plan = Plan().node("draft", say=BAD, **AS_JSON).node("after", "draft")
    accepted = await api.post("/tasks", {"title": f"Gate {gate}", "task": plan.nodes, "gate": gate}, expect=202)
    run_id = str(accepted["run_id"])
    await api.ended(run_id)
    draft = (await api.nodes(run_id))["draft"]
    if gate == "off":
        assert (draft["feedbacks"], draft["verdict"]) == ([], None)
        return

    async def scored() -> list[Json]:
        found: list[Json] = (await api.get(f"/nodes/{draft['id']}"))["feedbacks"]
        return found

    (feedback,) = await eventually(scored, what="a score")
    assert feedback["critical"] is True
    assert (await api.run(run_id))["needs_attention"] is False


async def test_the_inbox_says_what_waits_and_takes_decisions(world: World, api: Api, ledger: Ledger) -> None:
    surroundings = {"FLUIDCREW_URL": world.url(), "API_KEY": API_KEY, "COLUMNS": "160"}
    plan = with_a_bad_draft().node("table", say=BAD, **AS_JSON)
    run_id = await api.launch("The inbox", plan.nodes, gate="gate")
    await held(api, run_id, "draft", "table")

    async def fluidcrew(*words: str, expect: int = 0) -> str:
        return await said_by(COMMAND, *words, expect=expect, **surroundings)

    listed = await fluidcrew("review", "ls", "--run", run_id[:8])
    assert ("draft" in listed, "table" in listed, "is not valid json" in listed) == (True, True, True)
    shown = await fluidcrew("status", run_id[:8])
    assert "needs attention" in shown
    assert "fluidcrew review" in shown
    assert "verdict:" in await fluidcrew("why", run_id[:8])

    page = json.loads(await fluidcrew("review", "ls", "--run", run_id[:8], "--json"))
    number = [node["key"] for node in page["items"]].index("table") + 1
    inbox = await on_a_terminal(
        "review", "--run", run_id[:8], answers=f"{number}\naccept\n85\ngood enough\nquit\n", **surroundings
    )
    assert "table: score 85, accept" in inbox
    assert "which one? 1–1" in inbox or "which one? 1–2" in inbox

    rerun = await fluidcrew("review", "rerun", run_id[:8], "draft", "--prompt", corrected(plan))
    assert "attempt 3 follows" in rerun
    await api.ended(run_id)
    compared = await fluidcrew("attempts", run_id[:8], "draft")
    assert f"+{GOOD}" in compared
    assert "| table | 2 | 85 | accept |" in await fluidcrew("qa", run_id[:8])
    assert "completed, 85/100" in (await fluidcrew("show", run_id[:8])).replace("attempt 2, ", "")
    assert "nothing waits for a verdict" in await fluidcrew("review", "ls", "--run", run_id[:8])
    assert await ledger.counts(plan) == {"draft": 3, "after": 1, "other": 1, "beside": 1, "table": 2}


@pytest.fixture
def reviewed_world() -> Iterator[World]:
    """A stack of its own: where a model reviews, everybody's calls are counted twice."""
    world = World(FEEDBACK_REVIEWER="openai/fake-2", FEEDBACK_REVIEW_TIMEOUT_MS="20000")
    try:
        world.start()
        yield world
    finally:
        world.stop()


def opinion(score: int, decision: str, comment: str) -> Behaviour:
    return Behaviour(output={"overall_score": score, "decision": decision, "comment": comment})


async def test_another_model_than_the_author_reviews_and_its_cost_is_the_run_s(reviewed_world: World) -> None:
    ledger, plan = Ledger(reviewed_world.llm_url), Plan().node("draft")
    await ledger.script(
        Behaviour(), opinion(35, "revise", "names no source"), Behaviour(), opinion(40, "revise", "still none")
    )
    async with Api(reviewed_world.url()) as api:
        run_id = await api.launch("Reviewed by a model", plan.nodes, gate="gate")
        draft = (await held(api, run_id, "draft"))["draft"]
        assert (draft["verdict"]["score"], draft["verdict"]["critique"] != "", draft["attempt"]) == (40, True, 2)
        first, review, second, _ = calls = await ledger.calls()
        assert [call.model for call in calls] == ["fake-1", "fake-2"] * 2
        assert first.user.splitlines()[0] in review.user
        assert "names no source" in second.user
        usages = [each["evaluation"]["usage"]["prompt_tokens"] for each in draft["feedbacks"]]
        spent = (await api.run(run_id))["summary"]
        assert spent["llm_request_count"] == 4
        assert spent["llm_prompt_tokens"] > sum(usages) > 0
        await ledger.script(Behaviour(), opinion(90, "accept", "well done"))
        await api.post(f"/nodes/{draft['id']}/rerun", {"instructions": "Name your sources"}, expect=202)
        await api.ended(run_id)
        guided = (await ledger.calls())[4].user
        assert ("still none" in guided, "Name your sources" in guided) == (True, True)
        assert (await api.nodes(run_id))["draft"]["verdict"]["score"] == 90
        calls_of = (await api.get(f"/runs/{run_id}/sidecars"))["total"]
        assert calls_of == 6, "each call left its sidecar"


async def on_a_terminal(*words: str, answers: str, **environment: str) -> str:
    """All that a terminal would show to somebody who types this."""
    ours, theirs = pty.openpty()
    env = {k: v for k, v in os.environ.items() if k in INHERITED} | {"TERM": "dumb"} | environment
    process = await asyncio.create_subprocess_exec(
        str(COMMAND), *words, env=env, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    os.write(ours, answers.encode())
    reading = asyncio.create_task(asyncio.to_thread(_read_all, ours))
    async with asyncio.timeout(60):
        code, shown = await process.wait(), await reading
    os.close(ours)
    assert code == 0, shown
    return shown


def _read_all(terminal: int) -> str:
    """Until the other side is closed, which Linux tells as an error."""
    shown = b""
    while True:
        try:
            shown += os.read(terminal, 65_536)
        except OSError:
            return shown.decode(errors="replace")
