"""Feedback on real NATS and Postgres, with an executor that can be told what to answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel

from chassis.context import Context
from chassis.keeper import Keeper
from chassis.service import Build, Chassis, running
from chassis.settings import ServiceSettings
from chassis.testing.eventually import eventually
from chassis.testing.plugin import SettingsOf
from chassis.testing.servers import Database, NatsServer
from chassis.unit_of_work import fingerprint
from contracts.budgets import Reserved, ReserveSpend, Settled, SettleSpend, Shortage
from contracts.envelope import Envelope
from contracts.errors import Code, Rejection, RetryLater
from contracts.executor import NodeStatus, Usage
from contracts.feedback import Feedback, GiveFeedback, ListFeedbacks, VerdictGiven
from contracts.message import Request
from contracts.plan import Gate
from contracts.review import BookReview, GetReviewCase, ReviewBooked, ReviewCase
from contracts.run_facts import NodeReviewing
from contracts.streams import EXECUTOR_VERDICTS
from contracts.verdict import Effect, Source
from services.feedback.app import build
from services.feedback.settings import FeedbackSettings
from tests.review_cases import review_case

A = TypeVar("A", bound=BaseModel)

GOOD = "The tides follow the moon. Two high waters a day, each about fifty minutes later than the day before."
AUTHOR = "openai/fake-1"


def a_case(output: str | None = GOOD, **fields: Any) -> ReviewCase:
    """An attempt that waits for its verdict. What belongs to the node's spec goes there."""
    spec = {"key": "a", "role": "writer", "agent_id": "anna"}
    given = {"status": NodeStatus.REVIEWING, "gate": Gate.GATE, "output": output, "author": AUTHOR}
    return review_case(spec, **given | fields)


def next_attempt(case: ReviewCase, **fields: Any) -> ReviewCase:
    return case.model_copy(update={"attempt": case.attempt + 1} | fields)


def reviewing(case: ReviewCase, **fields: Any) -> NodeReviewing:
    given: dict[str, Any] = {
        "run_id": case.run_id,
        "node_id": case.node_id,
        "key": case.spec.key,
        "attempt": case.attempt,
        "gate": case.gate,
        "title": case.spec.title,
        "project": case.project_id,
        "task_id": case.task_id,
        "role": case.spec.role,
        "agent_id": case.spec.agent_id,
        "checksum": None,
        "output_preview": (case.output or "")[:100],
        "model": "fake-1",
        "usage": Usage(),
        "duration_ms": 1,
    }
    return NodeReviewing.model_validate(given | fields)


@dataclass
class ScriptedExecutor:
    """Knows the cases it was given; books each review once; hears verdicts as the real one does."""

    cases: dict[tuple[UUID, int], ReviewCase] = field(default_factory=dict)
    booked: dict[UUID, BookReview] = field(default_factory=dict)
    asked_for: list[UUID] = field(default_factory=list)
    verdicts: list[VerdictGiven] = field(default_factory=list)
    chassis: Chassis | None = None
    is_away: bool = False
    failures: int = 0  # that are to come, of who asks for a case
    may_book: asyncio.Event = field(default_factory=asyncio.Event)
    shortage: Shortage | None = None
    has_budget: bool = False
    reserved: list[ReserveSpend] = field(default_factory=list)
    settled: list[SettleSpend] = field(default_factory=list)

    async def build(self, chassis: Chassis) -> None:
        self.chassis = chassis
        self.may_book.set()
        for request, answer in (
            (GetReviewCase, self.case),
            (BookReview, self.book),
            (ReserveSpend, self.reserve),
            (SettleSpend, self.settle),
        ):
            chassis.bus.serve(request, answer)
        chassis.bus.on(EXECUTOR_VERDICTS, {VerdictGiven: self.hear})

    async def hear(self, verdict: VerdictGiven, _: Envelope) -> None:
        self.verdicts.append(verdict)

    async def case(self, request: GetReviewCase, _: Context) -> ReviewCase:
        if self.is_away:
            raise RetryLater(0.05, "nobody is there")
        if self.failures:
            self.failures -= 1
            raise KeyError("a passing failure")
        self.asked_for.append(request.node_id)
        attempts = {a: case for (node, a), case in self.cases.items() if node == request.node_id}
        found = attempts.get(request.attempt or max(attempts, default=0))
        if found is None or (request.run_id is not None and found.run_id != request.run_id):
            raise Rejection(Code.NOT_FOUND, f"there is no node {request.node_id} in run {request.run_id}")
        revised = [v.attempt for v in self.verdicts if v.node_id == found.node_id and v.effect is Effect.REVISE]
        return found.model_copy(update={"revisions": sum(attempt < found.attempt for attempt in revised)})

    async def book(self, request: BookReview, _: Context) -> ReviewBooked:
        await self.may_book.wait()
        if fingerprint(self.booked.setdefault(request.command_id, request)) != fingerprint(request):
            raise Rejection(Code.IDEMPOTENCY_MISMATCH, "this key was used with another body")
        return ReviewBooked(call=2)

    async def reserve(self, request: ReserveSpend, _: Context) -> Reserved:
        if self.shortage is not None:
            raise Rejection(Code.OVER_BUDGET, self.shortage.said(), **self.shortage.model_dump(mode="json"))
        self.reserved.append(request)
        return Reserved(reservation=request.command_id if self.has_budget else None)

    async def settle(self, request: SettleSpend, _: Context) -> Settled:
        self.settled.append(request)
        return Settled(was_open=True)

    def knows(self, *cases: ReviewCase) -> None:
        self.cases |= {(case.node_id, case.attempt): case for case in cases}

    async def tell(self, *cases: ReviewCase, **fields: Any) -> None:
        """Attempts have succeeded and wait for their verdicts."""
        assert self.chassis is not None
        self.knows(*cases)
        async with self.chassis.uow.begin(Context(request_id="test")) as tx:
            tx.publish(*(reviewing(case, **fields) for case in cases))

    def verdicts_on(self, case: ReviewCase) -> list[VerdictGiven]:
        return [v for v in self.verdicts if (v.node_id, v.attempt) == (case.node_id, case.attempt)]


@dataclass
class World:
    executor: ScriptedExecutor
    start_feedback: Callable[..., AbstractAsyncContextManager[Chassis]]
    start_publisher: Callable[[Build], AbstractAsyncContextManager[Chassis]]
    urls: dict[str, str]  # feedback's own, as variables of the environment

    async def ask(self, request: Request[A]) -> A:
        assert self.executor.chassis is not None
        return await self.executor.chassis.bus.ask(request, Context(request_id="test"), patience=60)

    async def verdict(self, case: ReviewCase, version: int = 1) -> VerdictGiven:
        """As the executor hears it."""

        async def heard() -> VerdictGiven | None:
            return next((v for v in self.executor.verdicts_on(case) if v.version == version), None)

        return await eventually(heard, what=f"verdict {version} on {case.spec.key}, attempt {case.attempt}")

    async def judged(self, case: ReviewCase, **fields: Any) -> VerdictGiven:
        await self.executor.tell(case, **fields)
        return await self.verdict(case)

    async def give(self, case: ReviewCase, score: int | None, **fields: Any) -> Feedback:
        return await self.ask(giving(case, score, **fields))

    async def feedbacks(self, case: ReviewCase, **fields: Any) -> list[Feedback]:
        """The oldest first."""
        ask = ListFeedbacks(node_id=case.node_id, order_by="created_at", **fields)
        return (await self.ask(ask)).items

    async def review(self, case: ReviewCase) -> Feedback:
        """The automatic one, once it is there."""

        async def there() -> Feedback | None:
            found = [f for f in await self.feedbacks(case, source=Source.AUTO) if f.attempt == case.attempt]
            return found[0] if found else None

        return await eventually(there, what=f"a review of {case.spec.key}")


def giving(case: ReviewCase, score: int | None, **fields: Any) -> GiveFeedback:
    given: dict[str, Any] = {
        "command_id": uuid4(),
        "run_id": case.run_id,
        "node_id": case.node_id,
        "attempt": case.attempt,
        "score": score,
        "reviewer": "ann",
        "asked_at": datetime.now(UTC),
    }
    return GiveFeedback.model_validate(given | fields)


@pytest.fixture
async def world(
    database: Database,
    nats_server: NatsServer,
    keeper: Keeper,
    object_store: dict[str, str],
    settings_of: SettingsOf,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[World]:
    """The bus and a scripted executor; feedback is started by the test, or by `live`, and no model reviews."""
    monkeypatch.setenv("LLM_DEFAULT_PROVIDER", "demo")

    def start_feedback(**fields: Any) -> AbstractAsyncContextManager[Chassis]:
        given = {"reviewer": "none", "review_timeout_ms": 60_000} | fields  # who is slow here is no late reviewer
        return running("feedback", settings_of(FeedbackSettings, "feedback", **given), build)

    def start_publisher(answers: Build) -> AbstractAsyncContextManager[Chassis]:
        return running("publisher", settings_of(ServiceSettings, "publisher"), answers)

    scripted = ScriptedExecutor()
    async with running("executor", settings_of(ServiceSettings, "executor"), scripted.build):
        urls = {"NATS_URL": nats_server.url("feedback"), "DATABASE_URL": database.url_for("feedback")}
        yield World(scripted, start_feedback, start_publisher, urls)


@pytest.fixture
async def live(world: World) -> AsyncIterator[World]:
    """The same with feedback running, code checks only."""
    async with world.start_feedback():
        yield world
