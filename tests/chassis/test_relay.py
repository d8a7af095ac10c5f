"""The relay under pressure: thousands of rows, a broker that refuses or dies, and rows that nobody can publish."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest
from nats.aio.client import Client
from prometheus_client import REGISTRY

from chassis import wire
from chassis.context import Context
from chassis.keeper import Keeper, stream_config
from chassis.outbox import OversizedMessage, Staged, write_outbox
from chassis.postgres import connect
from chassis.service import Chassis
from chassis.testing.eventually import eventually
from chassis.testing.outbox_table import UNPUBLISHED
from chassis.testing.servers import Database, NatsServer
from contracts import run_facts, streams
from contracts.envelope import Envelope
from contracts.streams import STREAMS
from tests.chassis.conftest import Start, almost_no_room, fact, nothing

LEFT_BEHIND = """
with batches as (
    insert into outbox_batches (stream, size, created_at)
    select $1, $4::int, clock_timestamp() - interval '1 minute' from generate_series(1, $3 / $4::int) returning id
)
insert into outbox (batch, message_id, subject, story, sequence, head, body)
select id, gen_random_uuid(), $2, 's', 1, '', '{}' from batches, generate_series(1, $4::int)
"""
SUBJECT = {
    "EVENTS": "evt.default.executor.run.completed.x",
    "DLQ": "dlq.planner-runs",
}


async def abandon(chassis: Chassis, stream: str, count: int, batch: int = 1) -> None:
    """Rows as a crash between commit and publish leaves them, in batches of so many."""
    await chassis.pool.execute(LEFT_BEHIND, stream, SUBJECT[stream], count, batch)


async def none_waits(chassis: Chassis) -> bool:
    return await chassis.pool.fetchval(UNPUBLISHED) == 0


async def messages(keeper: Keeper, stream: str) -> int:
    js = await keeper.connect()
    return (await js.stream_info(stream)).state.messages


async def test_a_large_outbox_is_published_across_a_restart_of_the_broker(
    start: Start, nats_server: NatsServer, keeper: Keeper
) -> None:
    async with start("executor", nothing) as emitter:
        nats_server.kill()
        await abandon(emitter, "EVENTS", 3500, batch=70)
        rounds = emitter.relay.rounds
        await eventually(lambda: emitter.relay.rounds > rounds, what="a round while the broker is away")
        nats_server.start()
        await eventually(lambda: none_waits(emitter))
        assert await messages(keeper, "EVENTS") == 3500


async def test_a_full_stream_neither_spins_the_relay_nor_holds_up_the_others(start: Start, keeper: Keeper) -> None:
    await almost_no_room(keeper, STREAMS[1])
    async with start("executor", nothing) as emitter:
        await abandon(emitter, "EVENTS", 2500, batch=50)
        await abandon(emitter, "DLQ", 3)
        await eventually(lambda: _in_stream(keeper, "DLQ", 3))
        rounds = emitter.relay.rounds
        await eventually(lambda: emitter.relay.rounds > rounds + 1, what="the relay goes on")
        await keeper.apply()
        await eventually(lambda: none_waits(emitter))


async def _in_stream(keeper: Keeper, stream: str, count: int) -> bool:
    return await messages(keeper, stream) == count


async def test_a_stream_that_is_gone_does_not_silence_the_others(start: Start, keeper: Keeper) -> None:
    js = await keeper.connect()
    async with start("executor", nothing) as emitter:
        await js.delete_stream("DLQ")
        await eventually(lambda: not emitter.relay.repair.trusts("DLQ"))
        async with emitter.uow.begin() as tx:
            tx.publish(fact())
        await eventually(lambda: none_waits(emitter))


async def test_rows_that_cannot_be_published_stop_no_other(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chassis.left_behind.PAGE", 3)
    async with start("executor", nothing) as emitter:
        async with emitter.pool.acquire() as connection, connection.transaction():
            await connection.execute(LEFT_BEHIND, "EVENTS", "evt.no subject", 7, 1)
        await abandon(emitter, "EVENTS", 5)
        await eventually(lambda: _waiting(emitter, 7))


async def test_of_a_batch_only_what_was_refused_waits_on(start: Start, keeper: Keeper) -> None:
    async with start("executor", nothing) as emitter:
        async with emitter.pool.acquire() as connection, connection.transaction():
            await connection.execute(LEFT_BEHIND, "EVENTS", SUBJECT["EVENTS"], 5, 5)
            await connection.execute(
                "update outbox set subject = 'evt.no subject' where id = (select min(id) from outbox)"
            )
        await eventually(lambda: _waiting(emitter, 1))
        assert await emitter.pool.fetchval("select sum(size) from outbox_batches where published_at is null") == 1
        assert await messages(keeper, "EVENTS") == 4
        rounds = emitter.relay.rounds
        await eventually(lambda: emitter.relay.rounds > rounds + 1, what="another pass")
        assert await messages(keeper, "EVENTS") == 4, "the others are not published again"


async def test_answers_from_before_a_comparison_of_the_stream_count_for_nothing(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream may have lost what it acknowledged, and the comparison has not seen a batch that was under way."""
    send, sent = wire.send, 0

    async def compared_meanwhile(nc: Client, commands: bytes) -> None:
        nonlocal sent
        sent += 1
        if sent == 1:
            emitter.relay.repair._comparisons["EVENTS"] += 1
        await send(nc, commands)

    async with start("executor", nothing) as emitter:
        await eventually(lambda: emitter.relay.repair.trusts("EVENTS"))
        monkeypatch.setattr(wire, "send", compared_meanwhile)
        async with emitter.uow.begin() as tx:
            tx.publish(fact(), fact())
        await eventually(lambda: none_waits(emitter))
    assert sent == 2


async def test_a_batch_whose_messages_have_all_moved_on_is_done(start: Start) -> None:
    async with start("executor", nothing) as emitter:
        await emitter.pool.execute(
            "insert into outbox_batches (stream, size, created_at) values ('EVENTS', 3, now() - interval '1 minute')"
        )
        left = "select count(*) from outbox_batches where published_at is null"
        await eventually(lambda: _none(emitter, left))


async def _none(chassis: Chassis, sql: str) -> bool:
    return await chassis.pool.fetchval(sql) == 0


async def test_a_full_stream_is_asked_a_little_in_each_pass_and_not_for_every_row(
    start: Start, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.left_behind.PAGE", 10)
    monkeypatch.setattr("chassis.relay.IN_FLIGHT_LIMIT", 10)
    js = await keeper.connect()
    tiny = stream_config(STREAMS[1], 1)
    tiny.max_bytes = 100
    await js.update_stream(tiny)
    async with start("executor", nothing) as emitter:
        before, rounds = refused(), emitter.relay.rounds
        await abandon(emitter, "EVENTS", 500, batch=5)
        await eventually(lambda: refused() > before)
        passes = emitter.relay.rounds
        await eventually(lambda: emitter.relay.rounds > passes + 1)
        assert refused() - before <= 20 * (emitter.relay.rounds - rounds + 1)


def refused() -> float:
    return REGISTRY.get_sample_value("outbox_refused_total", {"stream": "EVENTS"}) or 0.0


async def _waiting(chassis: Chassis, count: int) -> bool:
    return await chassis.pool.fetchval(UNPUBLISHED) == count


async def test_a_committed_effect_is_no_failure_because_its_publish_or_a_hook_failed(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken_hook() -> None:
        raise ZeroDivisionError("a doorbell that is broken")

    rung = asyncio.Event()

    async def ring() -> None:
        rung.set()

    async with start("executor", nothing) as emitter:

        async def no_room(*_: object) -> None:
            raise ConnectionError("the connection broke while it was written to")

        with monkeypatch.context() as broken:
            broken.setattr(wire, "send", no_room)
            async with emitter.uow.begin() as tx:
                tx.publish(fact())
                tx.after_commit(broken_hook)
                tx.after_commit(ring)
        assert rung.is_set(), "one hook's failure is not another's"
        await eventually(lambda: none_waits(emitter))


async def test_a_publish_without_an_answer_is_made_again(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chassis.relay.ANSWER_TIMEOUT", 0.5)
    async with start("executor", nothing) as emitter:
        send, lost = wire.send, asyncio.Event()

        async def lose_the_answer(nc: Client, commands: bytes) -> None:
            if not lost.is_set():
                lost.set()
                commands = commands.replace(b".relay.", b".nowhere.")
            await send(nc, commands)

        monkeypatch.setattr(wire, "send", lose_the_answer)
        async with emitter.uow.begin() as tx:
            tx.publish(fact())
        await lost.wait()
        await eventually(lambda: none_waits(emitter))


async def test_two_relays_of_one_service_publish_everything_and_the_broker_keeps_it_once(
    start: Start, keeper: Keeper
) -> None:
    async with start("executor", nothing) as one, start("executor", nothing) as other:
        await abandon(one, "EVENTS", 2000, batch=100)
        runs = [uuid4() for _ in range(20)]
        for run_id, replica in zip(runs, [one, other] * 10, strict=True):
            async with replica.uow.begin() as tx:
                tx.publish(*(fact(run_id, n) for n in range(5)))
        await eventually(lambda: none_waits(one))
        assert await messages(keeper, "EVENTS") == 2100


async def test_no_more_than_the_limit_is_in_flight_and_the_rest_follows(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.relay.IN_FLIGHT_LIMIT", 10)
    monkeypatch.setattr("chassis.left_behind.PAGE", 7)
    monkeypatch.setattr("chassis.outbox.BATCH", 7)
    highest: list[int] = []
    async with start("executor", nothing) as emitter:
        send = wire.send

        async def count(nc: Client, commands: bytes) -> None:
            highest.append(emitter.relay._in_flight)
            await send(nc, commands)

        monkeypatch.setattr(wire, "send", count)
        async with emitter.uow.begin() as tx:
            tx.publish(*(fact() for _ in range(60)))
        await eventually(lambda: none_waits(emitter))
    assert 7 <= max(highest) <= 10


async def test_facts_of_one_story_arrive_in_the_order_they_were_committed(start: Start, keeper: Keeper) -> None:
    run_id = uuid4()
    async with start("executor", nothing) as emitter:
        await eventually(lambda: emitter.relay.repair.trusts("EVENTS"))  # before that, rows wait for the sweeper
        for n in range(5):
            async with emitter.uow.begin() as tx:
                tx.publish(*(fact(run_id, 10 * n + i) for i in range(10)))
        await eventually(lambda: none_waits(emitter))
    js = await keeper.connect()
    pull = await js.pull_subscribe_bind(consumer=streams.PLANNER_RUNS.durable, stream="EVENTS")
    arrived = await pull.fetch(50, timeout=5)
    got = [run_facts.RunCompleted.model_validate_json(m.data).nodes_completed for m in arrived]
    assert [Envelope.from_headers(m.headers).sequence for m in arrived] == list(range(1, 51))
    assert got == sorted(got)
    assert len(got) == 50


async def test_only_one_relay_of_a_service_sweeps(start: Start, database: Database) -> None:
    other = await connect(database.url_for("executor"), "executor")
    await other.execute("select pg_advisory_lock(hashtext('executor.relay'))")
    async with start("executor", nothing) as emitter:
        await eventually(lambda: emitter.relay.repair.trusts("EVENTS"))
        await abandon(emitter, "EVENTS", 3)
        rounds = emitter.relay.rounds
        await eventually(lambda: emitter.relay.rounds > rounds + 1)
        assert await emitter.pool.fetchval(UNPUBLISHED) == 3, "another one is at it"
        await other.close()
        await eventually(lambda: none_waits(emitter))


async def test_what_is_too_large_is_refused_before_the_commit_and_travels_when_it_was_staged(start: Start) -> None:
    titles: list[str] = []

    async def build(chassis: Chassis) -> None:
        async def on_completed(message: run_facts.RunCompleted, envelope: Envelope) -> None:
            titles.append(message.title)

        chassis.bus.on(streams.PLANNER_RUNS, {run_facts.RunCompleted: on_completed})

    large = fact().model_copy(update={"title": "é" * 40_000})
    async with start("planner", build), start("executor", nothing) as emitter:
        with pytest.raises(OversizedMessage, match="stage it first"):
            async with emitter.uow.begin() as tx:
                tx.publish(large)
        assert await emitter.pool.fetchval("select count(*) from outbox") == 0
        staged = await emitter.uow.stage(large)
        assert isinstance(staged, Staged)
        assert staged.claim.key == f"_facts/default/{staged.claim.sha256}"
        async with emitter.uow.begin() as tx:
            tx.publish(staged)
        await eventually(lambda: titles == [large.title])


async def test_a_fact_that_was_swept_carries_its_number_and_its_story(start: Start, keeper: Keeper) -> None:
    context = Context(request_id="req-1", traceparent=f"00-{'a' * 32}-{'b' * 16}-01")
    async with start("executor", nothing) as emitter:
        async with emitter.pool.acquire() as connection, connection.transaction():
            await write_outbox(connection, "executor", [(fact(), context)])  # and nobody hands it over
        await emitter.pool.execute("update outbox_batches set created_at = created_at - interval '1 minute'")
        await eventually(lambda: none_waits(emitter))
    js = await keeper.connect()
    envelope = Envelope.from_headers((await js.get_msg("EVENTS", seq=1)).headers)
    assert (envelope.sequence, envelope.request_id) == (1, "req-1")
    assert envelope.traceparent == context.traceparent
