"""The timeline on the real bus: duplicates, disorder, gaps, poison, a killed projector, a consumer that vanished."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from uuid import uuid4

import asyncpg
import nats
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from chassis.keeper import Keeper
from chassis.testing.eventually import eventually
from chassis.testing.outbox_table import PUBLISHED
from chassis.testing.servers import Database, NatsServer
from contracts.catalog import OWNER_REQUESTS
from contracts.planner import TaskWasDeleted
from contracts.run_facts import NodeSkipped
from contracts.streams import TIMELINE
from services.gateway import timeline
from services.gateway.telling.store import Timeline
from tests.gateway.conftest import StartGateway, StartOwner
from tests.gateway.telling import assert_gapless, has_told, publish, started, told, wire


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


async def _published(table: asyncpg.Connection, count: int, of: str = "executor") -> bool:
    return await table.fetchval(PUBLISHED.replace("outbox", f"{of}.outbox")) == count


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


async def test_one_gateway_leads_and_the_others_stand_by_until_it_is_gone(
    start_gateway: StartGateway, stream: JetStreamContext, table: asyncpg.Connection, database: Database
) -> None:
    leader = await asyncpg.connect(database.url, server_settings={"search_path": "gateway"})
    assert await Timeline(leader).lead()

    async def stood_back() -> bool:
        """The gauge is written at each attempt, and an attempt that leads does not end."""
        return REGISTRY.get_sample_value("timeline_leading") == 0

    async with start_gateway():
        for _ in range(2):
            timeline.LEADING.set(-1)
            await eventually(stood_back)
        await publish(stream, [wire(started(uuid4(), 1), 1)])
        timeline.LEADING.set(-1)
        await eventually(stood_back)
        info = await stream.consumer_info("EVENTS", TIMELINE.durable)
        assert (info.num_pending, info.delivered.consumer_seq) == (1, 0), "who does not lead takes nothing"
        await leader.close()
        await has_told(table, 1)
        assert REGISTRY.get_sample_value("timeline_leading") == 1


async def test_a_gap_that_cannot_be_closed_leaves_the_others_to_be_closed(
    start_gateway: StartGateway,
    start_owner: StartOwner,
    stream: JetStreamContext,
    table: asyncpg.Connection,
    nats_server: NatsServer,
) -> None:
    confused, asked = await nats.connect(nats_server.url()), asyncio.Event()

    async def answer(message: Msg) -> None:
        asked.set()
        await message.respond(b'{"answer": {"sent": "yes"}}')

    await confused.subscribe(OWNER_REQUESTS["executor"]["resend"].subject(), cb=answer)
    task_id = uuid4()
    async with start_owner("planner") as owner:
        await owner.tell(*(TaskWasDeleted(task_id=task_id, title="t") for _ in range(3)))
        await eventually(lambda: _published(table, 3, of="planner"))
        await stream.delete_msg("EVENTS", 2)
        await publish(stream, [wire(started(uuid4(), 2), 2)])
        async with start_gateway(gap_patience=0.2):
            await asyncio.wait_for(asked.wait(), 60)
            assert_gapless(await has_told(table, 3), {str(task_id): 3})
    await confused.close()


async def test_gaps_are_closed_again_after_looking_for_them_has_failed(
    start_gateway: StartGateway, start_owner: StartOwner, stream: JetStreamContext, table: asyncpg.Connection
) -> None:
    run_id = uuid4()
    async with start_owner("executor") as owner:
        await owner.tell(started(run_id, 1), started(run_id, 2), started(run_id, 3))
        await eventually(lambda: _published(table, 3))
        await stream.delete_msg("EVENTS", 2)
        await table.execute("revoke update on gateway.parked_facts from gateway")
        with capture_logs() as said:
            async with start_gateway(gap_patience=0.2):
                await has_told(table, 1)
                await eventually(lambda: sum(entry["event"] == "timeline.chase_failed" for entry in said) >= 2)
                await table.execute("grant update on gateway.parked_facts to gateway")
                assert_gapless(await has_told(table, 3), {str(run_id): 3})


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


async def test_a_broker_that_dies_under_a_flood_costs_nothing(
    start_gateway: StartGateway, stream: JetStreamContext, table: asyncpg.Connection, nats_server: NatsServer
) -> None:
    """Facts come in bursts then, and whoever waits for the end of one must not wait for ever."""
    run_id = uuid4()
    await publish(stream, [wire(started(run_id, n), n) for n in range(1, 2001)])
    async with start_gateway(timeline_batch=20):
        await has_told(table, 100)
        before = len(await told(table))
        nats_server.restart()
        assert_gapless(await has_told(table, 2000), {str(run_id): 2000})
        assert before < 2000, "it died while there was still work"


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
