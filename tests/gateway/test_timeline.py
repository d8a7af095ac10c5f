"""The timeline on the real bus: duplicates, disorder, gaps, poison, a killed projector, a consumer that vanished."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from uuid import UUID, uuid4

import asyncpg
import nats
import pytest
from nats.js import JetStreamContext

from chassis.keeper import Keeper
from chassis.testing.eventually import eventually
from chassis.testing.servers import Database, NatsServer
from contracts.envelope import Envelope
from contracts.executor import NodeSkipped, RunStarted
from contracts.message import Event
from contracts.streams import TIMELINE
from tests.gateway.conftest import StartGateway, StartOwner


@pytest.fixture
async def stream(nats_server: NatsServer, keeper: Keeper) -> AsyncIterator[JetStreamContext]:
    """The bus without any of our care: whoever publishes here may repeat and invert as much as it likes."""
    nc = await nats.connect(nats_server.url())
    yield nc.jetstream()
    await nc.close()


@pytest.fixture
async def table(database: Database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.url)
    yield connection
    await connection.close()


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

    return await eventually(enough, timeout=30)


def assert_gapless(found: list[tuple[int, str, int]], stories: dict[str, int]) -> None:
    assert [position for position, _, _ in found] == list(range(1, sum(stories.values()) + 1))
    for story, length in stories.items():
        assert [sequence for _, s, sequence in found if s == story] == list(range(1, length + 1))


async def test_facts_delivered_ten_times_and_shuffled_make_one_gapless_feed(
    start_gateway: StartGateway, stream: JetStreamContext, table: asyncpg.Connection
) -> None:
    runs = [uuid4() for _ in range(3)]
    messages = [wire(started(run_id, n), n) for run_id in runs for n in range(1, 31)] * 10
    random.Random(7).shuffle(messages)
    async with start_gateway(timeline_batch=50):
        await publish(stream, messages)
        assert_gapless(await has_told(table, 90), {str(run_id): 30 for run_id in runs})

        async def all_acked() -> bool:
            info = await stream.consumer_info("EVENTS", TIMELINE.durable)
            return info.num_pending == 0 and info.num_ack_pending == 0

        await eventually(all_acked)
        assert len(await told(table)) == 90
        assert await table.fetchval("select count(*) from gateway.parked_facts") == 0


async def test_a_projector_killed_in_the_middle_is_followed_by_the_other_gateway_without_gap_or_repeat(
    start_gateway: StartGateway,
    stream: JetStreamContext,
    table: asyncpg.Connection,
    database: Database,
    nats_server: NatsServer,
) -> None:
    environment = os.environ | {
        "NATS_URL": nats_server.url("gateway"),
        "DATABASE_URL": database.url_for("gateway"),
        "PORT": "0",
        "GATEWAY_TIMELINE_BATCH": "20",
    }
    leader = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.gateway", env=environment, stderr=asyncio.subprocess.DEVNULL
    )
    run_id = uuid4()
    try:
        await publish(stream, [wire(started(run_id, 1), 1)])
        await has_told(table, 1)
        async with start_gateway() as standby:
            publishing = asyncio.create_task(publish(stream, [wire(started(run_id, n), n) for n in range(2, 3001)]))
            await has_told(table, 100)
            leader.send_signal(signal.SIGKILL)
            before = len(await told(table))
            await publishing
            assert_gapless(await has_told(table, 3000), {str(run_id): 3000})
            assert before < 3000, "it was killed while there was still work"
            assert (await standby.client.get(f"/events?run_id={run_id}&limit=1")).json()["total"] == 3000
    finally:
        if leader.returncode is None:
            leader.kill()
        await leader.wait()


async def test_a_fact_that_the_broker_lost_is_told_after_its_owner_was_asked_for_it(
    start_gateway: StartGateway, start_owner: StartOwner, stream: JetStreamContext, table: asyncpg.Connection
) -> None:
    run_id = uuid4()
    async with start_owner("executor") as owner:
        await owner.tell(started(run_id, 1), started(run_id, 2), started(run_id, 3), request_id="r")
        await eventually(lambda: _published(table, 3))
        await stream.delete_msg("EVENTS", 2)
        async with start_gateway(gap_patience=0.2):
            assert_gapless(await has_told(table, 3), {str(run_id): 3})


async def _published(table: asyncpg.Connection, count: int) -> bool:
    return await table.fetchval("select count(*) from executor.outbox where published_at is not null") == count


async def test_a_fact_that_nobody_holds_any_more_is_skipped_over(
    start_gateway: StartGateway, start_owner: StartOwner, stream: JetStreamContext, table: asyncpg.Connection
) -> None:
    run_id = uuid4()
    async with start_owner("executor") as owner:
        await owner.tell(*(started(run_id, n) for n in range(1, 5)))
        await eventually(lambda: _published(table, 4))
        for n in (2, 3):
            await stream.delete_msg("EVENTS", n)
        await table.execute("delete from executor.outbox where sequence in (2, 3)")
        async with start_gateway(gap_patience=0.2):
            found = await has_told(table, 2)
            assert [(position, sequence) for position, _, sequence in found] == [(1, 1), (2, 4)]
            await owner.tell(started(run_id, 5))
            assert (await has_told(table, 3))[-1][2] == 5


async def test_poison_becomes_a_dead_letter_and_holds_up_nobody(
    start_gateway: StartGateway, stream: JetStreamContext, table: asyncpg.Connection
) -> None:
    run_id = uuid4()
    subject, body, headers = wire(started(run_id, 1), 1)
    unstorable = json.dumps({"run_id": str(run_id), "title": "a\x00b"}).encode()
    async with start_gateway() as gateway:
        await publish(
            stream,
            [
                (subject, b"no headers at all", {}),
                (subject, b"{", headers),
                ("evt.default.stranger.run.started.x", body, headers),
                (subject, unstorable, headers),
                wire(started(run_id, 2), 2),
            ],
        )
        assert_gapless(await has_told(table, 2), {str(run_id): 2})
        first = (await gateway.client.get(f"/runs/{run_id}/events?limit=1")).json()["items"][0]
        assert "unreadable" in json.loads(first["message"])
        letters = (await gateway.client.get("/admin/dead-letters/gateway")).json()
        assert letters["total"] == 4
        assert all(letter["durable"] == TIMELINE.durable for letter in letters["items"])
        url = f"/admin/dead-letters/gateway/{letters['items'][-1]['id']}"
        assert (await gateway.client.get(url)).json()["body"] is not None
        replayed = await gateway.client.post(f"{url}/replay")
        assert replayed.status_code == 422, "it is still no fact"


async def test_flow_resumes_after_the_consumer_was_deleted_and_after_the_broker_was_killed(
    start_gateway: StartGateway,
    stream: JetStreamContext,
    table: asyncpg.Connection,
    keeper: Keeper,
    nats_server: NatsServer,
) -> None:
    run_id = uuid4()
    async with start_gateway():
        await publish(stream, [wire(started(run_id, n), n) for n in range(1, 11)])
        await has_told(table, 10)
        await stream.delete_consumer("EVENTS", TIMELINE.durable)
        await keeper.apply()
        await publish(stream, [wire(started(run_id, n), n) for n in range(11, 21)])
        await has_told(table, 20)
        nats_server.restart()
        for n in range(21, 31):
            subject, body, headers = wire(started(run_id, n), n)
            await eventually(lambda s=subject, b=body, h=headers: stream.publish(s, b, headers=h, timeout=1))
        assert_gapless(await has_told(table, 30), {str(run_id): 30})


async def test_a_database_that_closes_every_connection_costs_nothing(
    start_gateway: StartGateway, stream: JetStreamContext, table: asyncpg.Connection
) -> None:
    run_id = uuid4()
    async with start_gateway(timeline_batch=10):
        publishing = asyncio.create_task(publish(stream, [wire(started(run_id, n), n) for n in range(1, 301)]))
        for _ in range(3):
            await has_told(table, 1)
            await table.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and usename = 'gateway'"
            )
        await publishing
        assert_gapless(await has_told(table, 300), {str(run_id): 300})


async def test_what_a_newer_service_tells_is_told_though_nobody_here_knows_its_type(
    start_gateway: StartGateway, stream: JetStreamContext, table: asyncpg.Connection
) -> None:
    _, _, headers = wire(NodeSkipped(run_id=uuid4(), node_id=uuid4(), key="a", attempt=1), 1)
    async with start_gateway() as gateway:
        await publish(stream, [("evt.acme.rag.document.ingested.d1", b'{"pages": 3}', headers)])
        assert await has_told(table, 1) == [(1, "d1", 1)]
        assert await table.fetchval("select level from gateway.timeline") == "DOCUMENT_INGESTED"
        assert (await gateway.client.get("/events")).json()["total"] == 0, "another company's facts are not ours to see"
