"""What was committed reaches the bus, whatever happens to the broker; the same order has one effect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import pytest

from chassis import left_behind
from chassis.context import Context
from chassis.keeper import Keeper
from chassis.service import Chassis
from chassis.testing.eventually import eventually
from chassis.testing.outbox_table import PUBLISHED, UNPUBLISHED
from chassis.testing.servers import NatsServer
from chassis.unit_of_work import Answered
from contracts import planner, run_facts, streams
from contracts.envelope import Envelope
from contracts.errors import Code, Rejection
from tests.chassis.conftest import Start, fact, nothing


@asynccontextmanager
async def kept(keeper: Keeper) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(keeper.run(stop))
    try:
        yield
    finally:
        stop.set()
        await task


def collecting(seen: list[int]) -> Callable[[Chassis], object]:
    async def build(chassis: Chassis) -> None:
        async def on_completed(message: run_facts.RunCompleted, envelope: Envelope) -> None:
            async with chassis.uow.handling(envelope, "planner-runs"):
                pass
            seen.append(message.nodes_completed)

        chassis.bus.on(streams.PLANNER_RUNS, {run_facts.RunCompleted: on_completed})

    return build


async def emit(chassis: Chassis, run_id: UUID, numbers: range) -> None:
    for n in numbers:
        async with chassis.uow.begin() as tx:
            tx.publish(fact(run_id, n))


async def test_what_was_committed_while_the_broker_was_down_arrives_when_it_is_back(
    start: Start, nats_server: NatsServer, keeper: Keeper
) -> None:
    seen: list[int] = []
    run_id = uuid4()
    async with kept(keeper), start("planner", collecting(seen)), start("executor", nothing) as emitter:
        await emit(emitter, run_id, range(5))
        await eventually(lambda: len(seen) == 5)
        nats_server.kill()
        await emit(emitter, run_id, range(5, 15))
        nats_server.start()
        await eventually(lambda: sorted(seen) == list(range(15)))


async def test_the_store_wiped_while_everything_is_up_loses_nothing(
    start: Start, nats_server: NatsServer, keeper: Keeper
) -> None:
    seen: list[int] = []
    run_id = uuid4()
    async with kept(keeper), start("executor", nothing) as emitter:
        await emit(emitter, run_id, range(20))
        await eventually(lambda: _published(emitter, 20))
        nats_server.wipe()  # 20 acknowledged messages that nobody has read yet are gone
        await emit(emitter, run_id, range(20, 25))
        async with start("planner", collecting(seen)):
            await eventually(lambda: sorted(set(seen)) == list(range(25)))
            assert len(seen) == 25


async def test_a_stream_deleted_under_a_live_server_is_made_anew_and_refilled(
    start: Start, nats_server: NatsServer, keeper: Keeper
) -> None:
    seen: list[int] = []
    run_id = uuid4()
    async with kept(keeper), start("planner", collecting(seen)), start("executor", nothing) as emitter:
        await emit(emitter, run_id, range(5))
        await eventually(lambda: len(seen) == 5)
        js = await keeper.connect()
        await js.delete_stream("EVENTS")
        await emit(emitter, run_id, range(5, 10))
        await eventually(lambda: sorted(seen) == list(range(10)))


async def test_a_process_that_died_between_commit_and_publish_is_swept_up_by_the_next(start: Start) -> None:
    seen: list[int] = []
    run_id = uuid4()
    async with start("executor", nothing) as emitter:
        emitter.relay.repair._verified.clear()  # not trusted: hand_over publishes nothing, as if the process had died
        emitter.relay.repair.check = _never  # type: ignore[method-assign]
        await emit(emitter, run_id, range(3))
        assert await emitter.pool.fetchval(UNPUBLISHED) == 3
    async with start("planner", collecting(seen)), start("executor", nothing):
        await eventually(lambda: sorted(seen) == [0, 1, 2])


async def _never() -> None:
    return None


async def _published(chassis: Chassis, count: int) -> bool:
    return await chassis.pool.fetchval(PUBLISHED) == count


async def prune(chassis: Chassis) -> None:
    await left_behind.prune(chassis.pool, chassis.relay.repair.floors())


async def test_published_rows_are_kept_until_every_consumer_has_passed_them(start: Start, keeper: Keeper) -> None:
    seen: list[int] = []
    run_id = uuid4()
    old = "update outbox_batches set published_at = published_at - interval '1 hour' where published_at is not null"
    async with start("executor", nothing) as emitter:
        await emit(emitter, run_id, range(4))
        await eventually(lambda: _published(emitter, 4))
        await emitter.pool.execute(old)
        await keeper.purge_and_publish()
        await eventually(lambda: bool(emitter.relay.repair._heard))
        await prune(emitter)
        assert await emitter.pool.fetchval("select count(*) from outbox") == 4, "nobody has read them"
        async with start("planner", collecting(seen)), start("gateway", nothing):
            await eventually(lambda: len(seen) == 4)
            js = await keeper.connect()
            timeline = await js.pull_subscribe_bind(consumer="gateway-timeline", stream="EVENTS")
            for message in await timeline.fetch(10, timeout=5):
                await message.ack_sync()
            await eventually(lambda: _pruned(emitter, keeper))
            await emit(emitter, run_id, range(4, 5))
            await eventually(lambda: len(seen) == 5)
            for message in await timeline.fetch(10, timeout=5):
                await message.ack_sync()
            await eventually(lambda: _passed(emitter, keeper, 5))
            await prune(emitter)
            assert await emitter.pool.fetchval("select count(*) from outbox") == 1, "fresh: it may be asked for again"


async def _passed(chassis: Chassis, keeper: Keeper, sequence: int) -> bool:
    await keeper.purge_and_publish()
    return dict(chassis.relay.repair.floors()).get("EVENTS") == sequence


async def _pruned(chassis: Chassis, keeper: Keeper) -> bool:
    await keeper.purge_and_publish()
    await prune(chassis)
    return await chassis.pool.fetchval("select count(*) from outbox") == 0


def an_order(title: str = "t") -> planner.CreateTask:
    return planner.CreateTask(command_id=uuid4(), title=title)


async def test_the_same_order_twice_has_one_effect_and_one_answer(start: Start) -> None:
    async with start("planner", nothing) as chassis:
        await chassis.pool.execute("create table effects (n int)")
        order = an_order()

        async def handle(given: planner.CreateTask) -> planner.Deleted:
            async with chassis.uow.order(given, Context()) as tx:
                await tx.conn.execute("insert into effects values (1)")
                return tx.answer(planner.Deleted(existed=True))

        assert (await handle(order)).existed
        with pytest.raises(Answered) as again:
            await handle(order)
        assert again.value.answer == {"existed": True}
        with pytest.raises(Rejection) as other:
            await handle(order.model_copy(update={"title": "another"}))
        assert other.value.failure.code is Code.IDEMPOTENCY_MISMATCH
        assert await chassis.pool.fetchval("select count(*) from effects") == 1


async def test_an_order_under_way_refuses_its_twin(start: Start) -> None:
    async with start("planner", nothing) as chassis:
        order = an_order()
        async with chassis.uow.order(order, Context()) as tx:
            with pytest.raises(Rejection) as twin:
                async with chassis.uow.order(order, Context()):
                    pass
            assert twin.value.failure.code is Code.IN_FLIGHT
            tx.answer(planner.Deleted(existed=False))


async def test_a_failed_transaction_publishes_nothing_and_answers_nothing(start: Start) -> None:
    async with start("planner", nothing) as chassis:
        order = an_order()

        async def break_off() -> None:
            async with chassis.uow.order(order, Context()) as tx:
                tx.publish(planner.TaskReady(task_id=uuid4(), title="t"))
                tx.answer(planner.Deleted(existed=False))
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await break_off()
        assert await chassis.pool.fetchval("select count(*) from outbox") == 0
        async with chassis.uow.order(order, Context()) as tx:
            tx.answer(planner.Deleted(existed=True))
