"""What a user of the bus may not do is refused by a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import nats
import pytest
from nats.aio.client import Client
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeout
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StreamConfig
from nats.js.errors import APIError

from chassis.testing.eventually import eventually
from chassis.testing.servers import NatsServer
from contracts.permissions import CLI, KEEPER, inbox_prefix, permissions, relay_consumer
from contracts.streams import CONSUMERS, STREAMS
from contracts.subjects import SERVICES

pytestmark = pytest.mark.asyncio


class Connection:
    """A user's connection that remembers what the server refused."""

    def __init__(self, client: Client, refusals: list[str]) -> None:
        self.client, self.refusals = client, refusals
        self.js = client.jetstream(timeout=60)
        self.in_vain = client.jetstream(timeout=0.5)  # who is refused gets no answer

    async def refused(self, act: Callable[[], Awaitable[object]], word: str) -> bool:
        before = len(self.refusals)
        try:
            await act()
            await self.client.flush()
        except (NatsTimeout, NoRespondersError, APIError):
            pass
        await eventually(lambda: len(self.refusals) > before, what=f"a refusal of {word}")
        return word.lower() in self.refusals[-1].lower()


@asynccontextmanager
async def connected(server: NatsServer, user: str) -> AsyncIterator[Connection]:
    refusals: list[str] = []

    async def on_error(error: Exception) -> None:
        refusals.append(str(error))

    client = await nats.connect(
        server.url(user), inbox_prefix=inbox_prefix(user).encode(), error_cb=on_error, allow_reconnect=False
    )
    try:
        yield Connection(client, refusals)
    finally:
        await client.close()


@pytest.fixture
async def bus(nats_server: NatsServer) -> NatsServer:
    async with connected(nats_server, KEEPER) as keeper:
        for stream in STREAMS:
            await keeper.js.add_stream(StreamConfig(name=stream.name, subjects=list(stream.subjects)))
        for consumer in CONSUMERS:
            await keeper.js.add_consumer(
                consumer.stream,
                ConsumerConfig(
                    durable_name=consumer.durable,
                    ack_policy=AckPolicy.EXPLICIT,
                    filter_subjects=list(consumer.filter_subjects),
                ),
            )
    return nats_server


async def test_a_service_publishes_its_own_facts_and_nobody_elses(bus: NatsServer) -> None:
    async with connected(bus, "planner") as planner:
        ack = await planner.js.publish("evt.default.planner.task.created.t1", b"{}")
        assert ack.stream == "EVENTS"
        foreign = "evt.default.executor.run.started.r1"
        assert await planner.refused(lambda: planner.client.publish(foreign, b"{}"), foreign)


async def test_a_service_pulls_and_acks_its_durable_and_no_other(bus: NatsServer) -> None:
    async with connected(bus, "executor") as executor:
        await executor.js.publish("evt.default.executor.run.started.r1", b"{}")
    async with connected(bus, "planner") as planner:
        mine = await planner.js.pull_subscribe_bind("planner-runs", "EVENTS", inbox_prefix=b"_INBOX_planner.")
        (message,) = await mine.fetch(1, timeout=60)
        await message.ack_sync()
        assert (await planner.js.consumer_info("EVENTS", "planner-runs")).num_ack_pending == 0
        next_of_gateway = "$JS.API.CONSUMER.MSG.NEXT.EVENTS.gateway-timeline"
        assert await planner.refused(
            lambda: planner.client.request(next_of_gateway, b"1", timeout=0.5), next_of_gateway
        )
        ack_of_gateway = "$JS.ACK.EVENTS.gateway-timeline.1.1.1.1.0"
        assert await planner.refused(lambda: planner.client.publish(ack_of_gateway, b"+ACK"), ack_of_gateway)


async def test_a_service_cannot_change_streams_or_consumers(bus: NatsServer) -> None:
    async with connected(bus, "planner") as planner:
        js = planner.in_vain
        assert await planner.refused(lambda: js.delete_stream("EVENTS"), "STREAM.DELETE")
        assert await planner.refused(lambda: js.purge_stream("EVENTS"), "STREAM.PURGE")
        assert await planner.refused(lambda: js.delete_consumer("EVENTS", "gateway-timeline"), "CONSUMER.DELETE")
        takeover = ConsumerConfig(
            name="gateway-timeline", durable_name="gateway-timeline", filter_subject="evt.nothing"
        )
        assert await planner.refused(lambda: js.add_consumer("EVENTS", takeover), "CONSUMER.CREATE")
        legacy = ConsumerConfig(durable_name="gateway-timeline")
        assert await planner.refused(lambda: js.add_consumer("EVENTS", legacy), "CONSUMER.DURABLE.CREATE")


async def test_a_service_does_not_overhear_others(bus: NatsServer) -> None:
    async with connected(bus, "planner") as planner:
        for subject in ("evt.>", "cmd.>", "rpc.executor.>", "_INBOX_executor.>", "_INBOX.>", "live.>", ">"):
            assert await planner.refused(lambda s=subject: planner.client.subscribe(s), subject)  # type: ignore[misc]
    async with connected(bus, "gateway") as gateway:
        await gateway.client.subscribe("live.>")
        await gateway.client.flush()
        assert gateway.refusals == []


async def test_requests_are_answered_without_a_right_to_publish_into_inboxes(bus: NatsServer) -> None:
    async with connected(bus, "planner") as planner, connected(bus, "gateway") as gateway:

        async def answer(message: nats.aio.msg.Msg) -> None:
            await message.respond(b"pong")

        await planner.client.subscribe("rpc.planner.task.get", queue="planner", cb=answer)
        await planner.client.flush()
        assert (await gateway.client.request("rpc.planner.task.get", b"ping", timeout=60)).data == b"pong"
        inbox = "_INBOX_gateway.guessed"
        assert await planner.refused(lambda: planner.client.publish(inbox, b"forged"), inbox)


async def test_a_relay_reads_the_headers_of_a_stream_with_its_ephemeral_consumer(bus: NatsServer) -> None:
    async with connected(bus, "planner") as planner:
        for number in range(3):
            await planner.js.publish(
                f"evt.default.planner.task.created.t{number}", b"{}", headers={"Nats-Msg-Id": f"m{number}"}
            )
        name = relay_consumer("planner")
        config = ConsumerConfig(
            name=name,
            filter_subject="evt.*.planner.>",
            ack_policy=AckPolicy.NONE,
            deliver_policy=DeliverPolicy.ALL,
            headers_only=True,
            mem_storage=True,
            inactive_threshold=5.0,
        )
        await planner.js.add_consumer("EVENTS", config)
        reader = await planner.js.pull_subscribe_bind(name, "EVENTS", inbox_prefix=b"_INBOX_planner.")
        found = await reader.fetch(3, timeout=60)
        assert [m.headers["Nats-Msg-Id"] for m in found if m.headers] == ["m0", "m1", "m2"]
        await planner.js.delete_consumer("EVENTS", name)
        foreign = ConsumerConfig(name=relay_consumer("executor"))
        assert await planner.refused(lambda: planner.in_vain.add_consumer("EVENTS", foreign), "CONSUMER.CREATE")
        assert len(planner.refusals) == 1


async def test_the_command_line_reads_facts_and_changes_nothing(bus: NatsServer) -> None:
    async with connected(bus, "planner") as planner:
        await planner.js.publish("evt.default.planner.task.created.t1", b"{}")
    async with connected(bus, CLI) as cli:
        replayed = await cli.js.subscribe("evt.>", stream="EVENTS", ordered_consumer=True)
        assert (await replayed.next_msg(timeout=60)).subject == "evt.default.planner.task.created.t1"
        await cli.client.subscribe("live.>")
        subject = "evt.default.planner.task.created.t2"
        assert await cli.refused(lambda: cli.client.publish(subject, b"{}"), subject)
        assert await cli.refused(lambda: cli.client.publish("rpc.planner.task.get", b"{}"), "rpc.planner")
        steal = "$JS.API.CONSUMER.MSG.NEXT.EVENTS.gateway-timeline"
        assert await cli.refused(lambda: cli.client.publish(steal, b"1"), steal)


async def test_the_command_line_cannot_take_over_a_durable(bus: NatsServer) -> None:
    """Its one way to create consumers has no name in the subject: there the server refuses to touch a durable one."""
    async with connected(bus, KEEPER) as keeper, connected(bus, CLI) as cli:
        for body in ('{"durable_name":"gateway-timeline"', '{"name":"gateway-timeline"'):
            request = f'{{"stream_name":"EVENTS","config":{body},"filter_subject":"evt.none","ack_policy":"none"}}}}'
            answer = await cli.client.request("$JS.API.CONSUMER.CREATE.EVENTS", request.encode(), timeout=60)
            assert b'"error"' in answer.data, answer.data
        consumers = {c.name: c.config.filter_subjects for c in await keeper.js.consumers_info("EVENTS")}
        assert consumers["gateway-timeline"] == ["evt.>"]


@pytest.mark.parametrize("service", SERVICES)
async def test_every_service_can_connect_with_its_permissions(bus: NatsServer, service: str) -> None:
    async with connected(bus, service) as connection:
        await connection.client.subscribe(f"rpc.{service}.>")
        await connection.client.subscribe("sig.>")
        await connection.js.stream_info("EVENTS")
        await asyncio.wait_for(connection.client.flush(), 60)
        assert connection.refusals == []


async def test_a_connection_without_credentials_is_refused(bus: NatsServer) -> None:
    address = bus.url().rpartition("@")[2]
    with pytest.raises(nats.errors.Error, match=r"(?i)authorization"):
        await nats.connect(f"nats://{address}", allow_reconnect=False)


async def test_only_the_keeper_may_do_everything() -> None:
    assert permissions(KEEPER).publish == (">",)
    assert all(">" not in permissions(user).publish for user in (*SERVICES, CLI))
