"""Facts as owners put them on the bus, and the timeline that they become."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID, uuid4

import asyncpg
from nats.js import JetStreamContext

from chassis.testing.eventually import eventually
from contracts.envelope import Envelope
from contracts.message import Event
from contracts.refs import BlobRef
from contracts.run_facts import RunStarted


def started(run_id: UUID, n: int) -> RunStarted:
    return RunStarted(run_id=run_id, title=f"{n}")


def wire(fact: Event, sequence: int) -> tuple[str, bytes, dict[str, str]]:
    envelope = Envelope.of(fact, id=uuid4(), source=fact.owner, sequence=sequence)
    headers = {k: v for k, v in envelope.headers().items() if k != "Nats-Msg-Id"}
    return fact.subject, fact.model_dump_json().encode(), headers


async def publish(stream: JetStreamContext, messages: Sequence[tuple[str, bytes, dict[str, str]]]) -> None:
    for subject, body, headers in messages:
        await stream.publish_async(subject, body, headers=headers)
    await stream.publish_async_completed()


async def told(table: asyncpg.Connection) -> list[tuple[int, str, int]]:
    rows = await table.fetch("select position, story, sequence from gateway.timeline order by position")
    return [tuple(row) for row in rows]


async def has_told(table: asyncpg.Connection, count: int) -> list[tuple[int, str, int]]:
    async def enough() -> list[tuple[int, str, int]]:
        found = await told(table)
        return found if len(found) >= count else []

    return await eventually(enough)


def assert_gapless(found: list[tuple[int, str, int]], stories: dict[str, int]) -> None:
    assert [position for position, _, _ in found] == list(range(1, sum(stories.values()) + 1))
    for story, length in stories.items():
        assert [sequence for _, s, sequence in found if s == story] == list(range(1, length + 1))


def claiming(fact: Event, sequence: int, claim: BlobRef) -> tuple[str, bytes, dict[str, str]]:
    subject, _, headers = wire(fact, sequence)
    return subject, b"", headers | {"x-claim": claim.model_dump_json()}
