"""The feedback service's place on the bus: verdicts on results, published as its outbox would, and what became of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import nats

from chassis.testing.eventually import eventually
from contracts.envelope import Envelope
from contracts.executor import Node, NodeStatus
from contracts.feedback import VerdictGiven
from contracts.review import GetReviewCase, NodeRerun, RerunNode, ReviewCase
from contracts.verdict import Decision, Effect, Source, Verdict
from services.executor.domain.facts import Judged
from tests.executor.conftest import World

SCORES = {Effect.RELEASE: 90, Effect.NOTE: 70, Effect.REVISE: 50, Effect.HOLD: 30}
DECISIONS = {Effect.RELEASE: Decision.ACCEPT, Effect.NOTE: Decision.ACCEPT, Effect.REVISE: Decision.REVISE}


def noted(key: str) -> Judged:
    """A verdict that is only shown, as it is left for the owner of the run."""
    about: dict[str, Any] = {"feedback_id": uuid4(), "attempt": 1, "version": 1, "effect": Effect.NOTE}
    said = {"decision": Decision.ACCEPT, "critical": False, "score": 80, "source": Source.AUTO, "reviewer": None}
    return Judged(key, Verdict(**about, **said, critique=None, at=datetime.now(UTC)))


class Judge:
    """Knows how many verdicts each attempt has had."""

    def __init__(self, world: World, js: nats.js.JetStreamContext) -> None:
        self._world = world
        self._js = js
        self._versions: dict[tuple[UUID, int], int] = {}

    async def give(self, run_id: UUID, key: str, effect: Effect, **fields: Any) -> VerdictGiven:
        node = (await self._world.nodes(run_id))[key]
        attempt = fields.pop("attempt", node.attempt)
        version = self._versions[node.id, attempt] = self._versions.get((node.id, attempt), 0) + 1
        given: dict[str, Any] = {"version": version, "score": SCORES[effect], "source": Source.AUTO, "reviewer": "r/1"}
        about: dict[str, Any] = {"feedback_id": uuid4(), "run_id": run_id, "node_id": node.id, "key": key}
        fact = VerdictGiven(
            **(about | {"attempt": attempt} | given | fields),
            effect=effect,
            decision=DECISIONS.get(effect, Decision.REJECT),
            critical=effect is Effect.HOLD,
        )
        await self.publish(fact, uuid4())
        return fact

    async def publish(self, fact: VerdictGiven, id: UUID, message_id: UUID | None = None) -> None:
        """`message_id` other than `id`: JetStream takes it for another message, and only the inbox knows it."""
        headers = Envelope.of(fact, id=id, source="feedback", sequence=1).headers()
        headers["Nats-Msg-Id"] = str(message_id or id)
        await self._js.publish(fact.subject, fact.model_dump_json().encode(), headers=headers)

    async def until(self, run_id: UUID, key: str, status: NodeStatus, attempt: int | None = None) -> Node:
        async def reached() -> Node | None:
            node = (await self._world.nodes(run_id))[key]
            return node if node.status is status and attempt in (None, node.attempt) else None

        return await eventually(reached, what=f"node {key} {status}")

    async def heeded(self, fact: VerdictGiven) -> Node:
        async def noted() -> Node | None:
            node = (await self._world.nodes(fact.run_id))[fact.key]
            return node if node.verdict is not None and node.verdict.feedback_id == fact.feedback_id else None

        return await eventually(noted, what=f"the verdict on {fact.key} was heeded")

    async def told(self, run_id: UUID, fact: str, times: int = 1) -> None:
        async def heard() -> bool:
            return (await self._world.facts(run_id)).count(fact) >= times

        await eventually(heard, what=f"{fact} told {times} times")

    async def rerun(self, run_id: UUID, key: str, **fields: Any) -> NodeRerun:
        node_id = (await self._world.nodes(run_id))[key].id
        return await self._world.ask(RerunNode(command_id=uuid4(), node_id=node_id, **fields))

    async def case(self, run_id: UUID, key: str, attempt: int | None = None) -> ReviewCase:
        node_id = (await self._world.nodes(run_id))[key].id
        return await self._world.ask(GetReviewCase(node_id=node_id, run_id=run_id, attempt=attempt))


@asynccontextmanager
async def judging(world: World) -> AsyncIterator[Judge]:
    connection = await nats.connect(world.nats.url())
    try:
        yield Judge(world, connection.jetstream())
    finally:
        await connection.close()
