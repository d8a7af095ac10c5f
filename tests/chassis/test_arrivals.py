"""Messages as they come off the wire, from a real server: whole, in order, and beside those that nats-py hands over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise

import nats
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import api

from chassis.arrivals import ACK, Arrival, Listening, _hearers_of, nak, settle
from chassis.testing.eventually import eventually
from chassis.testing.servers import NatsServer


@pytest.fixture
async def nc(nats_server: NatsServer) -> AsyncIterator[Client]:
    connection = await nats.connect(nats_server.url(), max_reconnect_attempts=-1, reconnect_time_wait=0.05)
    yield connection
    await connection.close()


async def test_a_message_arrives_with_the_headers_that_nats_py_reads(nc: Client) -> None:
    heard: list[Arrival] = []
    usual: list[Msg] = []

    async def hear(message: Msg) -> None:
        usual.append(message)

    await Listening(nc, "a.*", heard.append).start()
    await nc.subscribe("a.*", cb=hear)
    headers = {"ce-id": "1", "x-request-id": "grüße: a:b", "traceparent": ""}
    for n in range(500):
        await nc.publish(f"a.{n}", f"{n}".encode(), reply="back", headers=headers)
    await nc.publish("a.bare", b"no headers")
    await eventually(lambda: len(usual) == len(heard) == 501)
    assert [m.body for m in heard] == [m.data for m in usual], "in their order"
    assert [(m.subject, m.reply) for m in heard] == [(m.subject, m.reply) for m in usual]
    assert [m.headers() for m in heard] == [m.headers or {} for m in usual]
    assert {m.status for m in heard} == {""}


async def test_what_the_server_says_instead_of_a_message_is_told_apart(nc: Client) -> None:
    heard: list[Arrival] = []
    await Listening(nc, "answers", heard.append).start()
    await nc.publish("nobody.there", b"", reply="answers")
    await eventually(lambda: heard)
    assert heard[0].status == "503"


async def test_a_listener_that_breaks_leaves_the_connection_to_the_others(nc: Client) -> None:
    heard: list[bytes] = []

    def breaks_at_first(message: Arrival) -> None:
        heard.append(message.body)
        if len(heard) == 1:
            raise ZeroDivisionError

    await Listening(nc, "a", breaks_at_first).start()
    for n in range(2):
        await nc.publish("a", b"%d" % n)
    await eventually(lambda: heard == [b"0", b"1"])


@settings(deadline=None)
@given(
    messages=st.lists(st.tuples(st.sampled_from([7, 8]), st.binary(max_size=40), st.booleans()), max_size=30),
    cuts=st.lists(st.integers(0, 3000)),
)
async def test_however_the_bytes_are_cut_everybody_hears_their_own_messages_whole_and_in_order(
    messages: list[tuple[int, bytes, bool]], cuts: list[int]
) -> None:
    nc, heard, others = Client(), [], []

    async def process(sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        others.append((sid, subject, reply, data, headers or b""))

    nc._process_msg = process  # type: ignore[method-assign]
    _hearers_of(nc)[7] = lambda m: heard.append((7, m.subject.encode(), m.reply.encode(), m.body, m.head))
    head, stream, sent = b"NATS/1.0\r\na: MSG b 7 1\r\n\r\n", b"+OK\r\n", []
    for n, (sid, body, replied) in enumerate(messages):
        reply = b"$JS.ACK.%d" % n if replied else b""
        sent.append((sid, b"s.%d" % n, reply, body, head if n % 3 else b""))
        place = b"s.%d %d %b" % (n, sid, reply + b" " if replied else b"")
        with_head, without = b"HMSG %b%d %d\r\n%b" % (place, len(head), len(head + body), head), b"MSG %b%d\r\n"
        stream += (with_head if n % 3 else without % (place, len(body))) + body + b"\r\n"
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    for begin, end in pairwise(edges):
        await nc._ps.parse(stream[begin:end])
    assert heard == [m for m in sent if m[0] == 7]
    assert others == [m for m in sent if m[0] == 8]


async def test_a_listener_hears_on_when_the_connection_has_come_back_and_nothing_once_it_has_stopped(
    nc: Client, nats_server: NatsServer
) -> None:
    heard: list[bytes] = []
    listening = Listening(nc, "a", lambda message: heard.append(message.body))
    await listening.start()
    reconnects = nc.stats["reconnects"]
    await asyncio.to_thread(nats_server.kill)
    nats_server.start()
    await eventually(lambda: nc.stats["reconnects"] > reconnects and nc.is_connected)
    await nc.publish("a", b"again")
    await eventually(lambda: heard == [b"again"])
    await listening.stop()
    await nc.publish("a", b"too late")
    await nc.flush()
    assert heard == [b"again"]


async def test_many_are_settled_in_one_write_and_those_that_are_not_taken_come_again(nc: Client) -> None:
    js = nc.jetstream()
    await js.add_stream(name="S", subjects=["s"], storage=api.StorageType.MEMORY)
    await js.add_consumer("S", durable_name="d", ack_policy=api.AckPolicy.EXPLICIT, ack_wait=60)
    heard: list[Arrival] = []
    await Listening(nc, "inbox", heard.append).start()
    for n in range(10):
        await js.publish("s", b"%d" % n)

    await nc.publish("$JS.API.CONSUMER.MSG.NEXT.S.d", b'{"batch": 20}', reply="inbox")
    await eventually(lambda: len(heard) == 10)
    refused = {b"3": nak(0), b"7": nak(0.05)}
    await settle(nc, [(message, refused.get(message.body, ACK)) for message in heard])
    await eventually(lambda: len(heard) == 12)
    assert sorted(message.body for message in heard[10:]) == [b"3", b"7"]
    await settle(nc, [(message, ACK) for message in heard[10:]])

    async def nothing_is_left() -> bool:
        info = await js.consumer_info("S", "d")
        return not info.num_ack_pending and not info.num_pending

    await eventually(nothing_is_left)
