"""The keeper: applies, verifies, makes anew, purges only what everybody has passed."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import uuid4

import pytest

from chassis.keeper import Keeper, _utc, stream_config
from chassis.testing.eventually import eventually
from chassis.testing.outbox_table import UNPUBLISHED
from chassis.testing.servers import NatsServer
from contracts import run_facts, streams
from contracts.streams import CONSUMERS, STREAMS
from tests.chassis.conftest import Start, almost_no_room, fact, nothing


async def test_applying_twice_changes_nothing_and_verifying_agrees(nats_server: NatsServer) -> None:
    keeper = Keeper(nats_server.url())
    assert len(await keeper.apply()) == len(STREAMS) + len(CONSUMERS)
    assert await keeper.apply() == []
    assert await keeper.verify() == []
    await keeper.close()


async def test_a_difference_is_named_and_applying_mends_it(keeper: Keeper) -> None:
    js = await keeper.connect()
    config = stream_config(STREAMS[1], 1)
    config.max_bytes = 7 * streams.MIB
    await js.update_stream(config)
    await js.delete_consumer("EVENTS", "planner-runs")
    found = [str(difference) for difference in await keeper.verify()]
    assert found == [
        f"stream EVENTS max_bytes: expected {STREAMS[1].max_bytes}, found {7 * streams.MIB}",
        "consumer planner-runs: expected to exist, found nothing",
    ]
    assert await keeper.apply() == ["stream EVENTS updated", "consumer planner-runs created"]
    assert await keeper.verify() == []


async def test_only_what_every_consumer_has_passed_is_purged(
    start: Start, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tuple(s.model_copy(update={"soft_bytes": 2_000}) for s in STREAMS)
    monkeypatch.setattr("chassis.keeper.STREAMS", small)
    js = await keeper.connect()
    run_id = uuid4()
    async with start("executor", nothing) as emitter:
        for n in range(30):
            async with emitter.uow.begin() as tx:
                tx.publish(fact(run_id, n))
        await eventually(lambda: _count(js, 30))
        await keeper.purge_and_publish()
        assert (await js.stream_info("EVENTS")).state.messages == 30, "nobody has read them"
        for durable in ("planner-runs", "gateway-timeline"):
            pull = await js.pull_subscribe_bind(consumer=durable, stream="EVENTS")
            for message in await pull.fetch(30, timeout=5):
                await message.ack_sync()
        await keeper.purge_and_publish()
        state = (await js.stream_info("EVENTS")).state
        assert 0 < state.messages < 30
        assert state.bytes <= 2_500


async def test_what_a_consumer_has_fetched_and_not_acknowledged_stays(
    start: Start, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.keeper.STREAMS", tuple(s.model_copy(update={"soft_bytes": 500}) for s in STREAMS))
    js = await keeper.connect()
    async with start("executor", nothing) as emitter:
        for n in range(10):
            async with emitter.uow.begin() as tx:
                tx.publish(fact(uuid4(), n))
        await eventually(lambda: _count(js, 10))
    held = []
    for durable in ("planner-runs", "gateway-timeline"):
        pull = await js.pull_subscribe_bind(consumer=durable, stream="EVENTS")
        held.append(await pull.fetch(10, timeout=5))
    for message in (*held[0], *held[1][:4]):
        await message.ack_sync()
    state = await js.consumer_info("EVENTS", "gateway-timeline")
    assert (state.num_pending, state.num_ack_pending) == (0, 6), "all is delivered, and six are not done"
    floors = await keeper.purge_and_publish()
    assert {f.stream: f.sequence for f in floors}["EVENTS"] == 4
    assert (await js.stream_info("EVENTS")).state.first_seq == 5
    for message in held[1][4:]:
        await message.ack_sync()
    await keeper.purge_and_publish()
    assert (await js.stream_info("EVENTS")).state.first_seq > 5


async def _count(js: object, wanted: int) -> bool:
    info = await js.stream_info("EVENTS")  # type: ignore[attr-defined]
    return info.state.messages == wanted


async def test_a_full_stream_refuses_and_the_outbox_holds(start: Start, keeper: Keeper) -> None:
    js = await keeper.connect()
    await almost_no_room(keeper, STREAMS[1])
    async with start("executor", nothing) as emitter:
        for n in range(10):
            async with emitter.uow.begin() as tx:
                tx.publish(fact(uuid4(), n))
        await eventually(lambda: _at_least(emitter.pool, UNPUBLISHED, 5))
        await keeper.apply()  # room again
        await eventually(lambda: _at_most(emitter.pool, UNPUBLISHED, 0))
        assert (await js.stream_info("EVENTS")).state.messages == 10
    assert run_facts.RunCompleted.owner == "executor"


async def _at_least(pool: object, sql: str, n: int) -> bool:
    return await pool.fetchval(sql) >= n  # type: ignore[attr-defined]


async def _at_most(pool: object, sql: str, n: int) -> bool:
    return await pool.fetchval(sql) <= n  # type: ignore[attr-defined]


async def test_a_keeper_whose_connection_was_closed_for_good_makes_another(keeper: Keeper) -> None:
    await keeper.connect()
    assert keeper._nc is not None
    await keeper._nc.close()
    assert await keeper.apply() == []


async def test_a_keeper_survives_what_nobody_thought_of(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    apply, broken = keeper.apply, iter([KeyError("config"), ZeroDivisionError()])
    again, stop = asyncio.Event(), asyncio.Event()

    async def surprising() -> list[str]:
        for error in broken:
            raise error
        again.set()
        return await apply()

    monkeypatch.setattr(keeper, "apply", surprising)
    running = asyncio.create_task(keeper.run(stop))
    await asyncio.wait_for(again.wait(), 60)
    stop.set()
    await asyncio.wait_for(running, 60)


async def test_what_is_older_than_the_soft_age_is_purged_and_nothing_younger(
    start: Start, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    js = await keeper.connect()
    async with start("executor", nothing) as emitter:
        for n in range(9):
            async with emitter.uow.begin() as tx:
                tx.publish(fact(uuid4(), n))
        await eventually(lambda: _count(js, 9))
    for durable in ("planner-runs", "gateway-timeline"):
        pull = await js.pull_subscribe_bind(consumer=durable, stream="EVENTS")
        for message in await pull.fetch(9, timeout=5):
            await message.ack_sync()
    border = (await js.get_msg("EVENTS", seq=5)).time
    assert border is not None
    monkeypatch.setattr("chassis.keeper._age", lambda at: timedelta(days=99 if _utc(at) <= _utc(border) else 0))
    await keeper.purge_and_publish()
    state = (await js.stream_info("EVENTS")).state
    assert (state.first_seq, state.last_seq) == (6, 9)
