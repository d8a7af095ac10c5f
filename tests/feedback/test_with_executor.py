"""Feedback and the executor together, as they are: held, revised, released, paid for, killed."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel

from chassis.context import Context
from chassis.keeper import Keeper
from chassis.service import Chassis, running
from chassis.settings import ServiceSettings
from chassis.testing.eventually import eventually
from chassis.testing.fake_answers import Call
from chassis.testing.fake_behaviour import Behaviour
from chassis.testing.fake_openai import FakeOpenAI
from chassis.testing.servers import Database, NatsServer
from contracts.executor import GetRun, Node, NodeStatus, RunDetail, RunStatus, StartRun
from contracts.feedback import Feedback, GetQaReport, GiveFeedback, ListFeedbacks
from contracts.message import Request
from contracts.sidecar_requests import ListSidecars
from contracts.verdict import Effect, Source
from services.executor.app import build as build_executor
from services.executor.settings import ExecutorSettings
from services.feedback.app import build as build_feedback
from services.feedback.settings import FeedbackSettings
from tests.feedback.test_reviewer import says

A = TypeVar("A", bound=BaseModel)
JUDGE = "judge-1"


class TwoModels(FakeOpenAI):
    """The author answers what its node says; the judge gives each node the next of its scores, and 90 after them."""

    def __init__(self) -> None:
        super().__init__()
        self.scores: dict[str, list[int]] = {}

    def _behaviour(self, call: Call) -> Behaviour:
        if call.model != JUDGE:
            return super()._behaviour(call)
        scores = next((scores for title, scores in self.scores.items() if f"## Step\n{title}\n" in call.user), [])
        score = scores.pop(0) if scores else 90
        return says(score, decision="accept" if score >= 60 else "revise", comment=f"I give it {score}.")

    def of(self, model: str, title: str) -> list[Call]:
        return [call for call in self.calls if call.model == model and f"## Step\n{title}\n" in call.user]


class Both:
    def __init__(self, client: Chassis, model: TwoModels, urls: dict[str, str]) -> None:
        self.client = client
        self.model = model
        self.urls = urls

    async def ask(self, request: Request[A]) -> A:
        return await self.client.bus.ask(request, Context(request_id="test"), patience=60)

    async def start(self, *nodes: dict[str, Any], gate: str = "gate") -> UUID:
        order = {"command_id": uuid4(), "run_id": uuid4(), "title": "A guide", "gate": gate}
        return (await self.ask(StartRun.model_validate({**order, "nodes": list(nodes)}))).run_id

    async def run(self, run_id: UUID) -> RunDetail:
        return await self.ask(GetRun(run_id=run_id))

    async def nodes(self, run_id: UUID) -> dict[str, Node]:
        return {node.key: node for node in (await self.run(run_id)).nodes or []}

    async def becomes(self, run_id: UUID, status: RunStatus = RunStatus.COMPLETED, **nodes: NodeStatus) -> RunDetail:
        async def is_so() -> RunDetail | None:
            found = await self.run(run_id)
            states = {node.key: node.status for node in found.nodes or []}
            right = found.run.status is status and all(states[key] is state for key, state in nodes.items())
            return found if right else None

        return await eventually(is_so, what=f"the run becoming {status} with {nodes}")

    async def feedbacks(self, run_id: UUID, **fields: Any) -> list[Feedback]:
        return (await self.ask(ListFeedbacks(run_id=run_id, order_by="created_at", **fields))).items

    async def judge(self, node: Node, score: int, **fields: Any) -> Feedback:
        about = {"command_id": uuid4(), "run_id": node.run_id, "node_id": node.id, "reviewer": "ann"}
        asked = {"score": score, "asked_at": datetime.now(UTC)}
        return await self.ask(GiveFeedback.model_validate(about | asked | fields))


def step(key: str, *deps: str, **fields: Any) -> dict[str, Any]:
    return {"key": key, "title": f"Node {key}", "deps": list(deps), "instructions": f"Do {key}.", **fields}


@pytest.fixture
async def both(
    database: Database,
    nats_server: NatsServer,
    keeper: Keeper,
    object_store_settings: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Both]:
    """With an executor and a client; a test starts feedback, or takes `live`."""

    def settings(kind: type[ServiceSettings], service: str, **fields: Any) -> ServiceSettings:
        urls = {"nats_url": nats_server.url(service), "database_url": database.url_for(service)}
        return kind(**urls, drain_timeout=3.0, env="test", **fields)

    async def nothing(chassis: Chassis) -> None: ...

    async with TwoModels() as model, AsyncExitStack() as stack:
        environment = {
            **object_store_settings,
            "LLM_DEFAULT_PROVIDER": "openai",
            "LLM_DEFAULT_MODEL": "fake-1",
            "LLM_PRICES": '{"fake-1": {"input": 1, "output": 2}, "judge-1": {"input": 3, "output": 4}}',
            "OPENAI_BASE_URL": model.base_url,
            "FEEDBACK_REVIEWER": f"openai/{JUDGE}",
            "FEEDBACK_REVIEW_TIMEOUT_MS": "60000",
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        executor = settings(ExecutorSettings, "executor", lease_s=60, poll_s=0.1, drain_s=0.2)
        await stack.enter_async_context(running("executor", executor, build_executor))
        client = await stack.enter_async_context(running("gateway", settings(ServiceSettings, "gateway"), nothing))
        urls = {"NATS_URL": nats_server.url("feedback"), "DATABASE_URL": database.url_for("feedback")}
        yield Both(client, model, urls)


@pytest.fixture
async def live(both: Both, database: Database, nats_server: NatsServer) -> AsyncIterator[Both]:
    settings = FeedbackSettings(nats_url=both.urls["NATS_URL"], database_url=both.urls["DATABASE_URL"], env="test")
    async with running("feedback", settings, build_feedback):
        yield both


async def test_a_low_score_brings_a_guided_attempt_and_both_are_paid_for(live: Both) -> None:
    live.model.scores["Node a"] = [40]
    run_id = await live.start(step("a"), step("b", "a"))
    ended = await live.becomes(run_id)
    nodes = {node.key: node for node in ended.nodes or []}
    assert (nodes["a"].attempt, nodes["b"].attempt) == (2, 1)
    assert nodes["a"].verdict is not None
    assert (nodes["a"].verdict.effect, nodes["a"].verdict.score) == (Effect.RELEASE, 90)
    first, second = live.model.of("fake-1", "Node a")
    assert "I give it 40." not in first.user
    assert "I give it 40." in second.user
    assert [(f.node_key, f.attempt, f.score) for f in await live.feedbacks(run_id)] == [
        ("a", 1, 40),
        ("a", 2, 90),
        ("b", 1, 90),
    ]
    assert ended.summary.llm_request_count == len(live.model.calls) == 6
    sidecars = (await live.ask(ListSidecars(run_id=run_id))).items
    assert len(sidecars) == 6
    reviews = [s.document for s in sidecars if s.document["metadata"].get("role") == "reviewer"]
    assert len(reviews) == 3
    cost = sum(Decimal(str(s.document["cost"]["estimated"])) for s in sidecars)
    assert Decimal(ended.summary.cost_usd or 0) == pytest.approx(cost)
    report = await live.ask(GetQaReport(run_id=run_id))
    assert (report.accepted, report.critical, report.average_score) == (2, 0, 90.0)


async def test_what_stays_critical_waits_for_a_person_and_others_go_on(live: Both) -> None:
    live.model.scores["Node a"] = [40, 30]
    run_id = await live.start(step("a"), step("b", "a"), step("c"), step("d", "c"))
    held = await live.becomes(
        run_id, RunStatus.RUNNING, a=NodeStatus.PAUSED, b=NodeStatus.QUEUED, d=NodeStatus.COMPLETED
    )
    assert held.run.needs_attention
    node = (await live.nodes(run_id))["a"]
    assert node.pause_reasons == ["verdict"]
    assert node.verdict is not None
    await live.judge(node, 75, seen=str(node.verdict.feedback_id), comment="good enough")
    ended = await live.becomes(run_id)
    assert not ended.run.needs_attention
    a = (await live.nodes(run_id))["a"]
    assert (a.attempt, a.verdict and a.verdict.source) == (2, Source.HUMAN)


async def test_a_person_stops_a_good_result_and_what_depends_on_it(live: Both) -> None:
    run_id = await live.start(step("a"), step("b", "a", instructions="until-released"))
    await live.becomes(run_id, RunStatus.RUNNING, a=NodeStatus.COMPLETED)
    await live.judge((await live.nodes(run_id))["a"], 10, comment="wrong sea")
    await live.becomes(run_id, RunStatus.RUNNING, a=NodeStatus.PAUSED)
    live.model.release()
    await live.judge((await live.nodes(run_id))["a"], 80)
    await live.becomes(run_id)


async def test_a_run_that_only_observes_is_scored_and_never_waits(both: Both) -> None:
    run_id = await both.start(step("a"), step("b", "a"), gate="observe")
    both.model.scores["Node a"] = [5]
    await both.becomes(run_id)  # nobody reviews yet
    settings = FeedbackSettings(nats_url=both.urls["NATS_URL"], database_url=both.urls["DATABASE_URL"], env="test")
    async with running("feedback", settings, build_feedback):
        await eventually(lambda: _noted(both, run_id))
        nodes = await both.nodes(run_id)
        assert {node.status for node in nodes.values()} == {NodeStatus.COMPLETED}
        assert len(await both.feedbacks(run_id)) == 2


async def _noted(both: Both, run_id: UUID) -> bool:
    verdicts = [node.verdict for node in (await both.nodes(run_id)).values()]
    return all(verdict is not None and verdict.effect is Effect.NOTE for verdict in verdicts)


async def test_feedback_killed_again_and_again_loses_no_node_and_judges_each_attempt_once(
    both: Both, tmp_path: Path
) -> None:
    fan = [step("root"), *(step(f"m{n}", "root") for n in range(30)), step("join", *(f"m{n}" for n in range(30)))]
    run_id = await both.start(*fan)
    command = [sys.executable, "-m", "services.feedback"]
    for judged in (2, 8, 20):
        with (tmp_path / "log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *command, env={**os.environ, **both.urls, "FEEDBACK_LEASE": "1"}, stdout=log, stderr=log
            )
        try:
            await eventually(partial(_reviews, both, judged))
        finally:
            process.kill()
            await process.wait()
    settings = FeedbackSettings(nats_url=both.urls["NATS_URL"], database_url=both.urls["DATABASE_URL"], env="test")
    async with running("feedback", settings, build_feedback):
        ended = await both.becomes(run_id)
        assert {node.attempt for node in ended.nodes or []} == {1}
        feedbacks = await both.feedbacks(run_id, limit=200)
        assert len({f.node_id for f in feedbacks}) == len(feedbacks) == 32


async def _reviews(both: Both, count: int) -> bool:
    return len([call for call in both.model.calls if call.model == JUDGE and call.outcome == "done"]) >= count
