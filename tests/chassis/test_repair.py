"""A broker that comes back with an older copy of its store: sequences are used twice, and nothing is lost."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from nats.js import JetStreamContext
from prometheus_client import REGISTRY

from chassis.keeper import Keeper
from chassis.postgres import connect
from chassis.repair import FLOORS
from chassis.service import Chassis
from chassis.testing.eventually import eventually
from chassis.testing.servers import Database, NatsServer
from contracts.story import Floor
from tests.chassis.conftest import Start, fact, nothing
from tests.chassis.test_durability import collecting, emit, kept
from tests.chassis.test_relay import none_waits


def store_of(server: NatsServer) -> Path:
    return server._ours().store


@asynccontextmanager
async def rolled_back(server: NatsServer, copy: Path, only: str = "") -> AsyncIterator[None]:
    """What happens inside is forgotten by the broker; `only` names the part of its store that is rolled back."""
    server.kill()
    shutil.copytree(store_of(server), copy)
    server.start()
    yield
    server.kill()
    for part in store_of(server).rglob(only) if only else [store_of(server)]:
        shutil.rmtree(part)
        shutil.copytree(copy / part.relative_to(store_of(server)), part)
    server.start()


async def all_published(chassis: Chassis) -> bool:
    return chassis.relay.repair.trusts("EVENTS") and await none_waits(chassis)


async def test_an_older_copy_of_the_store_loses_nothing_though_sequences_come_twice(
    start: Start, nats_server: NatsServer, keeper: Keeper, tmp_path: Path
) -> None:
    seen: list[int] = []
    run_id = uuid4()
    async with kept(keeper), start("executor", nothing) as emitter:
        await emit(emitter, run_id, range(10))
        await eventually(lambda: all_published(emitter))
        async with rolled_back(nats_server, tmp_path / "copy"):
            await emit(emitter, run_id, range(10, 20))
            await eventually(lambda: all_published(emitter))
        await emit(emitter, run_id, range(20, 30))  # these take the sequences of what was lost
        async with start("planner", collecting(seen)):
            await eventually(lambda: sorted(set(seen)) == list(range(30)))
            assert len(seen) == 30


async def test_a_stream_rolled_back_behind_its_consumers_back_still_reaches_it(
    start: Start, nats_server: NatsServer, keeper: Keeper, tmp_path: Path
) -> None:
    """A power cut may lose the tail of a stream and keep the consumer's newer position."""
    seen: list[int] = []
    run_id = uuid4()
    async with kept(keeper), start("executor", nothing) as emitter, start("planner", collecting(seen)):
        await emit(emitter, run_id, range(10))
        await eventually(lambda: len(seen) == 10)
        async with rolled_back(nats_server, tmp_path / "copy", only="msgs"):
            await emit(emitter, run_id, range(10, 30))
            await eventually(lambda: len(seen) == 30)
        await emit(emitter, run_id, range(30, 35))
        await eventually(lambda: sorted(set(seen)) == list(range(35)))


async def test_a_floor_from_before_a_rollback_prunes_nothing_after_it(
    start: Start, nats_server: NatsServer, keeper: Keeper, tmp_path: Path
) -> None:
    js = await keeper.connect()
    created = (await js.stream_info("EVENTS")).created
    async with start("executor", nothing) as emitter:
        await emit(emitter, uuid4(), range(3))
        await eventually(lambda: all_published(emitter))
        repair = emitter.relay.repair
        at = datetime.fromisoformat(str(created))
        floor = Floor(stream="EVENTS", created=at if at.tzinfo else at.replace(tzinfo=UTC), sequence=1000)
        repair.hear_floor(FLOORS.dump_json([floor]))
        assert dict(repair.floors()) == {"EVENTS": 1000}
        nats_server.restart()
        await eventually(lambda: dict(repair.floors()) == {})
        repair.hear_floor(FLOORS.dump_json([floor.model_copy(update={"created": datetime(2020, 1, 1, tzinfo=UTC)})]))
        assert dict(repair.floors()) == {}, "a floor of another stream of that name"


async def test_a_tail_lost_under_a_connection_that_stood_is_noticed_by_its_sequences(
    start: Start, keeper: Keeper
) -> None:
    async with start("executor", nothing) as emitter:
        run_id = uuid4()
        await emit(emitter, run_id, range(5))
        await eventually(lambda: all_published(emitter))
        before = repaired()
        await emitter.pool.execute("update outbox set message_id = gen_random_uuid() where sequence = 3")
        emitter.relay.repair.saw("EVENTS", 2, duplicate=True)
        emitter.relay.nudge()
        rounds = emitter.relay.rounds
        await eventually(lambda: emitter.relay.rounds > rounds + 1)
        assert repaired() == before, "a repeat says nothing about the stream"
        emitter.relay.repair.saw("EVENTS", 2, duplicate=False)
        emitter.relay.nudge()
        await eventually(lambda: repaired() == before + 1)


def repaired() -> float:
    return REGISTRY.get_sample_value("outbox_repaired_total", {"stream": "EVENTS"}) or 0.0


async def test_while_a_stream_is_compared_what_is_committed_is_not_lost(
    start: Start, nats_server: NatsServer, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    run_id = uuid4()
    async with kept(keeper), start("executor", nothing) as emitter:
        await emit(emitter, run_id, range(10))
        await eventually(lambda: all_published(emitter))
        repair = emitter.relay.repair
        read, reading, go_on = repair._message_ids, asyncio.Event(), asyncio.Event()

        async def slowly(*arguments: object) -> object:
            ids = await read(*arguments)  # type: ignore[arg-type]
            reading.set()
            await go_on.wait()
            return ids

        monkeypatch.setattr(repair, "_message_ids", slowly)
        repair._suspicious = True
        emitter.relay.nudge()
        await reading.wait()
        await emit(emitter, run_id, range(10, 15))  # published after the ids were read, marked before they are used
        await eventually(lambda: none_waits(emitter))
        go_on.set()
        async with start("planner", collecting(seen)):
            await eventually(lambda: sorted(set(seen)) == list(range(15)))
        assert await none_waits(emitter)


async def test_replicas_compare_one_after_the_other(start: Start, database: Database) -> None:
    """They read the stream through one consumer, and what one frees the other must not judge at the same time."""
    other = await connect(database.url_for("executor"), "executor")
    await other.execute("select pg_advisory_lock(hashtext('executor.repair'))")
    waits = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
    async with start("executor", nothing) as emitter:
        await eventually(lambda: _is(emitter, waits, 1))
        assert not emitter.relay.repair.trusts("COMMANDS")
        await other.close()
        await eventually(lambda: emitter.relay.repair.trusts("EVENTS"))


async def _is(chassis: Chassis, sql: str, wanted: int) -> bool:
    return await chassis.pool.fetchval(sql) == wanted


async def test_a_server_that_came_back_gets_nothing_before_it_was_compared(
    start: Start, nats_server: NatsServer, database: Database, keeper: Keeper
) -> None:
    other = await connect(database.url_for("executor"), "executor")
    async with start("executor", nothing) as emitter:
        await eventually(lambda: all_published(emitter))
        await other.execute("select pg_advisory_lock(hashtext('executor.repair'))")
        nats_server.restart()
        waits = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
        await eventually(lambda: _is(emitter, waits, 1))
        await emit(emitter, uuid4(), range(3))
        await emitter.bus.nc.flush()
        js = await keeper.connect()
        await eventually(lambda: _messages(js, 0), what="the stream without what was committed meanwhile")
        await other.close()
        await eventually(lambda: _messages(js, 3))


async def _messages(js: JetStreamContext, count: int) -> bool:
    return (await js.stream_info("EVENTS")).state.messages == count


async def test_what_the_keeper_purged_is_not_said_again(start: Start, keeper: Keeper) -> None:
    async with start("executor", nothing) as emitter:
        await emit(emitter, uuid4(), range(6))
        await eventually(lambda: all_published(emitter))
        js = await keeper.connect()
        await js.purge_stream("EVENTS", seq=4)
        before, rounds = repaired(), emitter.relay.rounds
        emitter.relay.repair._suspicious = True
        emitter.relay.nudge()
        await eventually(lambda: emitter.relay.rounds > rounds + 1)
        assert not emitter.relay.repair._suspicious
        assert repaired() == before


async def test_of_a_batch_that_was_purged_in_part_only_what_is_missing_behind_the_cut_is_said_again(
    start: Start, keeper: Keeper
) -> None:
    run_id = uuid4()
    async with start("executor", nothing) as emitter:
        await eventually(lambda: all_published(emitter))
        async with emitter.uow.begin() as tx:
            tx.publish(*(fact(run_id, n) for n in range(6)))
        await eventually(lambda: all_published(emitter))
        js = await keeper.connect()
        await js.purge_stream("EVENTS", seq=3)
        await js.delete_msg("EVENTS", 5)
        before = repaired()
        emitter.relay.repair._suspicious = True
        emitter.relay.nudge()
        await eventually(lambda: repaired() == before + 1)


async def test_a_stream_made_anew_is_refilled_though_its_first_sequence_is_beyond_what_we_hold(
    start: Start, keeper: Keeper
) -> None:
    js = await keeper.connect()
    async with start("executor", nothing) as emitter:
        await emit(emitter, uuid4(), range(3))
        await eventually(lambda: all_published(emitter))
    await js.delete_stream("EVENTS")
    await keeper.apply()
    for n in range(9):  # another service's
        await js.publish("evt.default.planner.task.ready.x", str(n).encode())
    await js.purge_stream("EVENTS", seq=9)
    async with start("executor", nothing):
        await eventually(lambda: _messages(js, 4))


async def test_a_stream_that_was_made_anew_between_two_looks_is_refilled(start: Start, keeper: Keeper) -> None:
    js = await keeper.connect()
    async with start("executor", nothing) as emitter:
        await emit(emitter, uuid4(), range(3))
        await eventually(lambda: all_published(emitter))
        info, relay = emitter.relay.repair._js.stream_info, emitter.relay
        looking = asyncio.Lock()

        async def not_now(name: str) -> object:
            async with looking:
                return await info(name)

        relay.repair._js.stream_info = not_now  # type: ignore[assignment]
        async with looking:
            await js.delete_stream("EVENTS")
            await keeper.apply()
        await eventually(lambda: _messages(js, 3))
