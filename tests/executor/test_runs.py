"""Runs from order to end, on the real servers and a model server that keeps a ledger."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from chassis.blobs import Blobs
from chassis.llm.demo.reading import LABEL
from chassis.settings import ServiceSettings
from chassis.testing.eventually import eventually
from chassis.testing.fake_behaviour import Behaviour
from chassis.testing.fake_openai import FakeOpenAI
from contracts.errors import Code, Rejection
from contracts.executor import (
    DescribeLlm,
    GetNode,
    GetRun,
    ListNodes,
    ListRuns,
    NodeDetail,
    NodeStatus,
    RunStatus,
    StartRun,
    Wanted,
)
from contracts.run_facts import NodeToken
from contracts.sidecar import check
from tests.executor.conftest import World, agent, noop, refusal


async def node_of(world: World, run_id: Any, key: str) -> NodeDetail:
    return await world.ask(GetNode(node_id=(await world.nodes(run_id))[key].id))


# from order to end


async def test_a_run_of_noops_is_walked_in_the_order_of_its_graph(live: World) -> None:
    run_id = await live.start(noop("a"), noop("b", "a"), noop("c", "a"), noop("d", "b", "c"))

    detail = await live.until(run_id)

    assert detail.run.status is RunStatus.COMPLETED
    assert {n.status for n in detail.nodes or []} == {NodeStatus.COMPLETED}
    assert detail.summary.nodes_completed == 4
    assert detail.summary.cost_usd == "0"
    facts = await live.facts(run_id)
    assert facts[:3] == ["run.queued", "run.started", "node.started"]
    assert facts[-1] == "run.completed"
    assert (facts.count("node.started"), facts.count("node.completed")) == (4, 4)


async def test_agents_get_their_instructions_and_the_results_of_those_before_them(
    model: FakeOpenAI, live: World
) -> None:
    run_id = await live.start(
        agent("a", say="say:the first result", role="Researcher"),
        agent("b", "a", say="say:the second result", acceptance=["it is short"]),
        title="Understand tides",
    )

    detail = await live.until(run_id)

    assert detail.run.status is RunStatus.COMPLETED
    first, second = model.calls
    assert first.body["messages"][0]["content"].startswith("You are the Researcher.")
    assert "## Task\nUnderstand tides" in first.user
    assert "it is short" in second.user
    checksum = hashlib.sha256(b"the first result").hexdigest()
    assert f"### a: Node a\n<data {checksum[:16]}>\nthe first result\n</data" in second.user
    node = await node_of(live, run_id, "b")
    assert (node.output, node.output_preview, node.output_size) == ("the second result", "the second result", 17)
    assert (node.model, node.attempt, node.usage.requests) == ("fake-1", 1, 1)
    assert detail.summary.llm_request_count == 2
    assert detail.summary.llm_total_tokens > 0
    assert detail.summary.llm_p95_latency_ms is not None


async def test_every_call_leaves_a_valid_sidecar(model: FakeOpenAI, live: World) -> None:
    run_id = await live.start(agent("a", say="fail:500:1 say:good"))
    await live.until(run_id)

    rows = await live.rows("select document from sidecars where run_id = $1 order by id", run_id)

    documents = [json.loads(row["document"]) for row in rows]
    assert [d["retry"]["index"] for d in documents] == [0, 1]
    assert all(not check(d, strict=True).errors for d in documents)
    assert documents[0]["errors"][0]["code"] == "server_error"
    assert documents[1]["request_id"] == "test"


async def test_an_unknown_price_is_unknown(model: FakeOpenAI, live: World) -> None:
    run_id = await live.start(agent("a"))
    detail = await live.until(run_id)
    assert detail.summary.cost_usd is None
    assert (await node_of(live, run_id, "a")).usage.cost_usd is None


async def test_the_demo_provider_needs_nothing(live: World) -> None:
    run_id = await live.start(agent("a", role="Researcher"), agent("b", "a"))
    detail = await live.until(run_id)
    assert detail.run.status is RunStatus.COMPLETED
    assert LABEL in ((await node_of(live, run_id, "b")).output or "")
    assert detail.summary.cost_usd == "0"


async def test_a_dry_run_walks_the_plan_and_calls_no_model(model: FakeOpenAI, live: World) -> None:
    run_id = await live.start(agent("a"), agent("b", "a"), dry_run=True)
    detail = await live.until(run_id)
    assert (detail.run.status, detail.run.dry_run) == (RunStatus.COMPLETED, True)
    assert model.calls == []


async def test_a_node_may_use_another_provider_and_model(model: FakeOpenAI, live: World) -> None:
    run_id = await live.start(agent("a", llm_model="special-7"), agent("b", llm_backend="demo"))
    await live.until(run_id)
    assert [call.model for call in model.calls] == ["special-7"]
    assert (await node_of(live, run_id, "b")).model == "demo-1"


async def test_a_large_output_lies_in_the_object_store_before_it_is_told_of(
    model: FakeOpenAI, live: World, object_store_settings: dict[str, str]
) -> None:
    text = "é" * 50_000
    model.script(Behaviour(text=text))
    run_id = await live.start(agent("a"), agent("b", "a"))
    await live.until(run_id)

    node = await node_of(live, run_id, "a")

    assert node.output is None
    assert node.output_ref is not None
    assert node.output_ref.size == node.output_size == 100_000
    assert node.output_preview == text[:2000]
    blobs = Blobs(ServiceSettings(nats_url="nats://x", database_url="postgresql://x"))
    assert (await blobs.get(node.output_ref)).decode() == text
    await blobs.aclose()
    assert "[cut: the first 24,000 of 100,000 bytes]" in model.calls[1].user


async def test_tokens_are_streamed_to_whoever_watches(model: FakeOpenAI, world: World) -> None:
    words = " ".join(f"word{i}" for i in range(40))
    model.script(Behaviour(text=words, token_s=0.01))
    assert world.client is not None
    async with world.executor(), world.client.bus.watch("live.*.executor.node.token.*") as tokens:
        run_id = await world.start(agent("a"))
        heard = [NodeToken.model_validate_json(body) for body in await _until_text(tokens, words)]
    assert {token.run_id for token in heard} == {run_id}
    assert [token.index for token in heard] == list(range(len(heard)))
    assert 1 < len(heard) < 40


async def _until_text(tokens: AsyncIterator[tuple[str, bytes]], text: str) -> list[bytes]:
    bodies: list[bytes] = []
    async with asyncio.timeout(60):
        async for _, body in tokens:
            bodies.append(body)
            if "".join(NodeToken.model_validate_json(b).text for b in bodies) == text:
                return bodies
    raise AssertionError("the stream ended early")


# what goes wrong


async def test_a_failing_model_is_tried_again(model: FakeOpenAI, live: World) -> None:
    run_id = await live.start(agent("a", say="fail:500:2 say:good"))
    detail = await live.until(run_id)
    assert detail.run.status is RunStatus.COMPLETED
    assert (len(model.calls), (await live.nodes(run_id))["a"].attempt) == (3, 3)
    assert (await live.facts(run_id)).count("node.retried") == 2
    attempts = await live.rows("select status from attempts where run_id = $1 order by number", run_id)
    assert [a["status"] for a in attempts] == ["failed", "failed", "succeeded"]


async def test_retry_after_is_honoured(model: FakeOpenAI, live: World) -> None:
    run_id = await live.start(agent("a", say="fail:429:1 retry-after:1 say:good", max_attempts=1))
    assert (await live.until(run_id)).run.status is RunStatus.COMPLETED
    first, second = model.calls
    assert first.ended_at is not None
    assert second.at - first.ended_at >= 1.0


async def test_a_node_that_fails_for_good_fails_the_run_after_the_other_branches(
    model: FakeOpenAI, live: World
) -> None:
    run_id = await live.start(
        agent("bad", say="fail:400:9"), agent("after", "bad"), agent("good", say="say:fine"), agent("end", "good")
    )
    detail = await live.until(run_id)
    nodes = await live.nodes(run_id)
    assert (detail.run.status, detail.run.error) == (RunStatus.FAILED, "1 of 4 nodes failed: bad")
    assert {k: n.status.value for k, n in nodes.items()} == {
        "bad": "failed",
        "after": "queued",
        "good": "completed",
        "end": "completed",
    }
    assert nodes["bad"].attempt == 1
    assert "400" in (nodes["bad"].error or "")


async def test_skipping_what_failed_lets_the_rest_go_on(model: FakeOpenAI, live: World) -> None:
    run_id = await live.start(agent("bad", say="fail:400:9"), agent("after", "bad", say="say:done"))
    await live.until(run_id, RunStatus.FAILED)

    answer = await live.order(run_id, "skip_failed_and_resume")

    assert (answer.status, answer.actual, answer.skipped_nodes) == (RunStatus.RUNNING, RunStatus.FAILED, ["bad"])
    detail = await live.until(run_id, RunStatus.COMPLETED)
    assert {n.key: n.status.value for n in detail.nodes or []} == {"bad": "skipped", "after": "completed"}
    assert (await live.facts(run_id))[-1] == "run.completed"


async def test_a_node_that_takes_too_long_is_stopped_and_its_request_closed(model: FakeOpenAI, live: World) -> None:
    run_id = await live.start(agent("a", say="stall:2", timeout_s=2, max_attempts=2))
    detail = await live.until(run_id)
    assert detail.run.status is RunStatus.FAILED
    assert "within 2 s" in ((await live.nodes(run_id))["a"].error or "")
    await eventually(lambda: [c.outcome for c in model.calls] == ["disconnected", "disconnected"])


async def test_a_run_that_takes_too_long_fails_and_its_requests_are_closed(model: FakeOpenAI, live: World) -> None:
    run_id = await live.start(agent("a", say="stall:2"), timeout_s=2)
    detail = await live.until(run_id)
    assert (detail.run.status, detail.run.error) == (RunStatus.FAILED, "the run's time of 2 s is over")
    await eventually(lambda: [c.outcome for c in model.calls] == ["disconnected"])


async def test_a_provider_that_is_not_configured_fails_the_node_with_what_to_do(
    live: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = await live.start(agent("a", llm_backend="anthropic"), agent("b", llm_backend="nonsense"))
    await live.until(run_id, RunStatus.FAILED)
    nodes = await live.nodes(run_id)
    assert "ANTHROPIC_API_KEY" in (nodes["a"].error or "")
    assert "no provider 'nonsense'" in (nodes["b"].error or "")


async def test_one_node_that_cannot_be_stored_does_not_stop_the_others(model: FakeOpenAI, world: World) -> None:
    """The database is made to refuse one output, in the middle of a batch of good ones."""
    await world.rows("alter table nodes add constraint no_poison check (output is null or output not like '%poison%')")
    nodes = [agent("bad", say="say:poison"), *[agent(f"good{i}", say=f"say:result {i}") for i in range(8)]]
    async with world.executor():
        run_id = await world.start(*nodes)
        detail = await world.until(run_id)
        assert detail.run.status is RunStatus.FAILED
        assert {n.status for n in detail.nodes or [] if n.key != "bad"} == {NodeStatus.COMPLETED}
        bad = (await world.nodes(run_id))["bad"]
        assert bad.status is NodeStatus.FAILED
        assert "could not be stored" in (bad.error or "")
        refused = await world.rows("select number from attempts where error like '%could not be stored%'")
        assert [row["number"] for row in refused] == [bad.attempt], "once is enough to know it"


# orders


async def test_canceling_closes_the_request_and_everything_behind_it(model: FakeOpenAI, live: World) -> None:
    run_id = await live.start(agent("a", say="stall:2"), agent("b", "a"))
    await model.until(lambda: len(model.calls) == 1)

    answer = await live.order(run_id, "cancel")

    assert (answer.status, answer.wanted) == (RunStatus.CANCELED, Wanted.CANCEL)
    await model.until(lambda: model.calls[0].outcome == "disconnected")
    detail = await live.until(run_id, RunStatus.CANCELED)
    assert {n.status for n in detail.nodes or []} == {NodeStatus.CANCELED}
    assert (await live.order(run_id, "cancel")).actual is RunStatus.CANCELED
    refused = await refusal(live.order(run_id, "resume"))
    assert refused.failure.code is Code.ILLEGAL_STATE
    assert refused.failure.details["state"] == "canceled"


async def test_a_canceled_call_is_accounted_for_with_an_unknown_cost(model: FakeOpenAI, live: World) -> None:
    run_id = await live.start(agent("a", say="stall:3"))
    await model.until(lambda: len(model.calls) == 1)
    await live.order(run_id, "cancel")
    rows = await eventually(lambda: live.rows("select document from sidecars where run_id = $1", run_id))
    document = json.loads(rows[0]["document"])
    assert not check(document, strict=True).errors
    assert (document["errors"][0]["code"], document["cost"]["known"]) == ("canceled", False)
    summary = (await live.run(run_id)).summary
    assert (summary.cost_usd, summary.llm_request_count) == (None, 1)
    assert summary.llm_prompt_tokens > 0


async def test_a_paused_run_finishes_what_runs_and_starts_nothing_until_resumed(model: FakeOpenAI, live: World) -> None:
    run_id = await live.start(agent("a", say="until-released say:one"), agent("b", "a", say="say:two"))
    await model.until(lambda: len(model.calls) == 1)

    answer = await live.order(run_id, "pause")

    assert (answer.actual, answer.wanted) == (RunStatus.RUNNING, Wanted.PAUSE)
    model.release()
    detail = await live.until(run_id, RunStatus.PAUSED)
    assert detail.run.pause_reasons == ["control"]
    assert {n.key: n.status.value for n in detail.nodes or []} == {"a": "completed", "b": "queued"}
    assert len(model.calls) == 1
    await live.order(run_id, "resume")
    assert (await live.until(run_id, RunStatus.COMPLETED)).run.wanted is Wanted.RUN
    facts = await live.facts(run_id)
    assert [f for f in facts if f.startswith("run.")] == [
        "run.queued",
        "run.started",
        "run.control_asked",
        "run.paused",
        "run.control_asked",
        "run.resumed",
        "run.completed",
    ]


async def test_an_order_needs_no_free_slot(model: FakeOpenAI, world: World) -> None:
    async with world.executor(concurrency=1):
        busy = await world.start(agent("a", say="stall:1"))
        await model.until(lambda: len(model.calls) == 1)
        waiting = await world.start(agent("a"))
        await world.order(waiting, "cancel")
        assert (await world.until(waiting)).run.status is RunStatus.CANCELED
        assert len(model.calls) == 1
        await world.order(busy, "cancel")
        await world.until(busy)


async def test_orders_are_taken_one_after_the_other(model: FakeOpenAI, live: World) -> None:
    run_id = await live.start(agent("bad", say="fail:400:9"), agent("after", "bad", say="until-released say:x"))
    await live.until(run_id, RunStatus.FAILED)
    for action in ("skip_failed_and_resume", "pause", "resume", "pause", "cancel"):
        await live.order(run_id, action)
    assert (await live.until(run_id, RunStatus.CANCELED)).run.wanted is Wanted.CANCEL
    assert await live.rows("select id from signals") == []


# asking


async def test_a_task_has_one_active_run(model: FakeOpenAI, live: World) -> None:
    task = uuid4()
    run_id = await live.start(agent("a", say="stall:1"), task_id=task)
    refused = await refusal(live.start(agent("a"), task_id=task))
    assert (refused.failure.code, refused.failure.details) == (Code.RUN_ACTIVE, {"run_id": str(run_id)})
    await live.order(run_id, "cancel")
    await live.until(run_id)
    await live.order(await live.start(agent("a"), task_id=task), "cancel")


async def test_forty_starts_of_one_task_make_one_run(live: World) -> None:
    task = uuid4()
    starts = [live.start(noop("a"), noop("b", "a"), task_id=task, title=f"t{i}") for i in range(40)]
    results = await asyncio.gather(*starts, return_exceptions=True)
    refused = [r for r in results if isinstance(r, Rejection)]
    assert all(r.failure.code is Code.RUN_ACTIVE for r in refused)
    overlapping = await live.rows(
        """select a.id from runs a join runs b on a.task_id = b.task_id and a.id <> b.id
           where a.created_at < b.ended_at and b.created_at < a.ended_at"""
    )
    assert overlapping == []


async def test_the_same_order_again_is_the_same_run(live: World) -> None:
    order = StartRun(command_id=uuid4(), run_id=uuid4(), title="t", nodes=[noop("a")])
    assert (await live.ask(order)).run_id == (await live.ask(order)).run_id
    other_command = order.model_copy(update={"command_id": uuid4()})
    assert (await live.ask(other_command)).run_id == order.run_id
    other_body = order.model_copy(update={"title": "another"})
    assert (await refusal(live.ask(other_body))).failure.code is Code.IDEMPOTENCY_MISMATCH
    await live.until(order.run_id)
    assert (await live.facts(order.run_id)).count("run.queued") == 1


async def test_a_plan_that_cannot_be_walked_is_refused_before_anything_is_stored(live: World) -> None:
    refused = await refusal(live.start(noop("a", "b"), noop("b", "a")))
    assert (refused.failure.code, refused.failure.message) == (Code.INVALID, "these nodes wait for each other: a, b")
    assert await live.rows("select id from runs") == []


async def test_what_is_not_there_is_not_found_and_neither_is_anothers(live: World) -> None:
    run_id = await live.start(noop("a"))
    node_id = (await live.nodes(run_id))["a"].id
    for request in (
        GetRun(run_id=uuid4()),
        GetRun(run_id=run_id, company="other"),
        GetNode(node_id=node_id, company="other"),
        ListNodes(run_id=run_id, company="other"),
    ):
        assert (await refusal(live.ask(request))).failure.code is Code.NOT_FOUND
    assert (await live.ask(ListRuns(company="other"))).total == 0


async def test_runs_are_listed_filtered_and_ordered(live: World) -> None:
    ids = [await live.start(noop("a"), title=title) for title in ("Alpha", "beta 100%", "Gamma")]
    await live.ended(ids)

    async def titles(**q: Any) -> list[str]:
        return [run.title for run in (await live.ask(ListRuns(**q))).items]

    assert await titles() == ["Gamma", "beta 100%", "Alpha"]
    assert await titles(order_by="title") == sorted(["Alpha", "beta 100%", "Gamma"], key=str.lower)
    assert await titles(order_by="-created_at", limit=1, offset=1) == ["beta 100%"]
    assert await titles(title_contains="00%") == ["beta 100%"]
    assert await titles(status="failed") == []
    assert (await live.ask(ListRuns(limit=1))).total == 3
    refused = await refusal(titles(order_by="owner"))
    assert (refused.failure.code, "created_at" in refused.failure.message) == (Code.INVALID, True)


async def test_nodes_are_listed_filtered_and_ordered(live: World) -> None:
    run_id = await live.start(noop("z"), noop("a", "z"))
    await live.until(run_id)

    async def keys(**q: Any) -> list[str]:
        return [node.key for node in (await live.ask(ListNodes(run_id=run_id, **q))).items]

    assert await keys() == ["z", "a"]
    assert await keys(order_by="key") == ["a", "z"]
    assert await keys(key="a") == ["a"]
    assert await keys(title_contains="NODE Z") == ["z"]
    assert await keys(status="queued") == []


async def test_the_executor_tells_which_models_it_has(live: World) -> None:
    config = await live.ask(DescribeLlm())
    assert config.default_provider == "demo"
    assert {p.name for p in config.providers} >= {"demo", "openai", "anthropic", "ollama"}
