"""The relay under pressure: thousands of rows, a broker that refuses or dies, and rows that nobody can publish."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY

from chassis.context import Context
from chassis.keeper import Keeper, stream_config
from chassis.outbox import OversizedMessage, write_outbox
from chassis.postgres import connect
from chassis.service import Chassis
from chassis.testing.eventually import eventually
from chassis.testing.servers import Database, NatsServer
from contracts import executor, streams
from contracts.envelope import Envelope
from contracts.streams import STREAMS
from tests.chassis.conftest import Start, fact, nothing

UNPUBLISHED = "select count(*) from outbox where published_at is null"
LEFT_BEHIND = """
insert into outbox (message_id, stream, subject, story, sequence, headers, body, created_at)
select id, $1, $2, id::text, 1, jsonb_build_object('ce-id', id::text, 'Nats-Msg-Id', id::text), '{}',
       clock_timestamp() - interval '1 minute'
from (select gen_random_uuid() as id from generate_series(1, $3)) as ids
"""
SUBJECT = {
    "EVENTS": "evt.default.executor.run.completed.x",
    "DLQ": "dlq.planner-runs",
}


async def left_behind(chassis: Chassis, stream: str, count: int) -> None:
    """Rows as a crash between commit and publish leaves them."""
    await chassis.pool.execute(LEFT_BEHIND, stream, SUBJECT[stream], count)


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
        await left_behind(emitter, "EVENTS", 3500)
        rounds = emitter.relay.rounds
        await eventually(lambda: emitter.relay.rounds > rounds, what="a round while the broker is away", timeout=40)
        nats_server.start()
        await eventually(lambda: none_waits(emitter), timeout=40)
        assert await messages(keeper, "EVENTS") == 3500


async def test_a_full_stream_neither_spins_the_relay_nor_holds_up_the_others(start: Start, keeper: Keeper) -> None:
    js = await keeper.connect()
    tiny = stream_config(STREAMS[1], 1)
    tiny.max_bytes = 1_500
    await js.update_stream(tiny)
    async with start("executor", nothing) as emitter:
        await left_behind(emitter, "EVENTS", 2500)
        await left_behind(emitter, "DLQ", 3)
        await eventually(lambda: _in_stream(keeper, "DLQ", 3))
        rounds = emitter.relay.rounds
        await eventually(lambda: emitter.relay.rounds > rounds + 1, what="the relay goes on")
        await keeper.apply()
        await eventually(lambda: none_waits(emitter), timeout=40)


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
    monkeypatch.setattr("chassis.relay.SWEEP_BATCH", 3)
    async with start("executor", nothing) as emitter:
        async with emitter.pool.acquire() as connection, connection.transaction():
            await connection.execute(LEFT_BEHIND, "EVENTS", SUBJECT["EVENTS"], 7)
            await connection.execute("""update outbox set headers = headers || '{"not a header": "x"}'""")
        await left_behind(emitter, "EVENTS", 5)
        await eventually(lambda: _waiting(emitter, 7))


async def test_a_full_stream_is_asked_a_little_in_each_pass_and_not_for_every_row(
    start: Start, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.relay.SWEEP_BATCH", 10)
    monkeypatch.setattr("chassis.relay.IN_FLIGHT_LIMIT", 10)
    js = await keeper.connect()
    tiny = stream_config(STREAMS[1], 1)
    tiny.max_bytes = 100
    await js.update_stream(tiny)
    async with start("executor", nothing) as emitter:
        before = refused()
        await left_behind(emitter, "EVENTS", 500)
        await eventually(lambda: refused() > before)
        rounds = emitter.relay.rounds
        await eventually(lambda: emitter.relay.rounds > rounds + 1)
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
        publish = emitter.bus.nc.publish

        async def no_room(*_: object, **__: object) -> None:
            raise ConnectionError("the connection broke while it was written to")

        monkeypatch.setattr(emitter.bus.nc, "publish", no_room)
        async with emitter.uow.begin() as tx:
            tx.publish(fact())
            tx.after_commit(broken_hook)
            tx.after_commit(ring)
        assert rung.is_set(), "one hook's failure is not another's"
        monkeypatch.setattr(emitter.bus.nc, "publish", publish)
        await eventually(lambda: none_waits(emitter))


async def test_a_publish_without_an_answer_is_made_again(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chassis.relay.ANSWER_TIMEOUT", 0.5)
    async with start("executor", nothing) as emitter:
        publish, lost = emitter.bus.nc.publish, asyncio.Event()

        async def lose_the_answer(subject: str, *args: object, reply: str = "", **rest: object) -> None:
            if subject.startswith("evt.") and not lost.is_set():
                lost.set()
                reply = f"{reply}.nowhere"
            await publish(subject, *args, reply=reply, **rest)  # type: ignore[arg-type]

        monkeypatch.setattr(emitter.bus.nc, "publish", lose_the_answer)
        async with emitter.uow.begin() as tx:
            tx.publish(fact())
        await lost.wait()
        await eventually(lambda: none_waits(emitter))


async def test_two_relays_of_one_service_publish_everything_and_the_broker_keeps_it_once(
    start: Start, keeper: Keeper
) -> None:
    async with start("executor", nothing) as one, start("executor", nothing) as other:
        await left_behind(one, "EVENTS", 2000)
        runs = [uuid4() for _ in range(20)]
        for run_id, replica in zip(runs, [one, other] * 10, strict=True):
            async with replica.uow.begin() as tx:
                tx.publish(*(fact(run_id, n) for n in range(5)))
        await eventually(lambda: none_waits(one), timeout=30)
        assert await messages(keeper, "EVENTS") == 2100


async def test_no_more_than_the_limit_is_in_flight_and_the_rest_follows(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.relay.IN_FLIGHT_LIMIT", 10)
    monkeypatch.setattr("chassis.relay.SWEEP_BATCH", 7)
    highest: list[int] = []
    async with start("executor", nothing) as emitter:
        publish = emitter.bus.nc.publish

        async def count(subject: str, *args: object, **rest: object) -> None:
            highest.append(len(emitter.relay._in_flight))
            await publish(subject, *args, **rest)  # type: ignore[arg-type]

        monkeypatch.setattr(emitter.bus.nc, "publish", count)
        async with emitter.uow.begin() as tx:
            tx.publish(*(fact() for _ in range(60)))
        await eventually(lambda: none_waits(emitter), timeout=30)
    assert max(highest) <= 10


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
    got = [executor.RunCompleted.model_validate_json(m.data).nodes_completed for m in arrived]
    assert [Envelope.from_headers(m.headers).sequence for m in arrived] == list(range(1, 51))
    assert got == sorted(got)
    assert len(got) == 50


async def test_only_one_relay_of_a_service_sweeps(start: Start, database: Database) -> None:
    other = await connect(database.url_for("executor"), "executor")
    await other.execute("select pg_advisory_lock(hashtext('executor.relay'))")
    async with start("executor", nothing) as emitter:
        await eventually(lambda: emitter.relay.repair.trusts("EVENTS"))
        await left_behind(emitter, "EVENTS", 3)
        rounds = emitter.relay.rounds
        await eventually(lambda: emitter.relay.rounds > rounds + 1)
        assert await emitter.pool.fetchval(UNPUBLISHED) == 3, "another one is at it"
        await other.close()
        await eventually(lambda: none_waits(emitter))


async def test_what_is_too_large_is_refused_before_the_commit_and_travels_when_it_was_staged(start: Start) -> None:
    titles: list[str] = []

    async def build(chassis: Chassis) -> None:
        async def on_completed(message: executor.RunCompleted, envelope: Envelope) -> None:
            titles.append(message.title)

        chassis.bus.on(streams.PLANNER_RUNS, {executor.RunCompleted: on_completed})

    large = fact().model_copy(update={"title": "é" * 40_000})
    async with start("planner", build), start("executor", nothing) as emitter:
        with pytest.raises(OversizedMessage, match="stage it first"):
            async with emitter.uow.begin() as tx:
                tx.publish(large)
        assert await emitter.pool.fetchval("select count(*) from outbox") == 0
        staged = await emitter.uow.stage(large)
        async with emitter.uow.begin() as tx:
            tx.publish(staged)
        await eventually(lambda: titles == [large.title])


async def test_a_fact_that_was_swept_carries_its_number_and_its_story(start: Start, keeper: Keeper) -> None:
    context = Context(request_id="req-1", traceparent=f"00-{'a' * 32}-{'b' * 16}-01")
    async with start("executor", nothing) as emitter:
        async with emitter.pool.acquire() as connection, connection.transaction():
            await write_outbox(connection, "executor", [(fact(), context)])  # and nobody hands it over
        await emitter.pool.execute("update outbox set created_at = created_at - interval '1 minute'")
        await eventually(lambda: none_waits(emitter))
    js = await keeper.connect()
    envelope = Envelope.from_headers((await js.get_msg("EVENTS", seq=1)).headers)
    assert (envelope.sequence, envelope.request_id) == (1, "req-1")
    assert envelope.traceparent == context.traceparent
