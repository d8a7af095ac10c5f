"""Turns without a question: what the next fence is expected to say, and who looks for a new run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from chassis.postgres import Connection
from chassis.service import Chassis
from chassis.testing.eventually import eventually
from chassis.testing.fake_openai import FakeOpenAI
from contracts.executor import RunStatus
from services.executor.engine import store
from services.executor.engine.at_once import store as at_once
from services.executor.engine.at_once.clock import Clock
from services.executor.engine.owner import LARGEST_BITE
from services.executor.engine.store import Fence
from services.executor.engine.turn import Turn
from services.executor.steering.store import lock_run
from tests.executor.conftest import World, agent, noop
from tests.executor.test_ownership import engine_of

NOW = datetime(2026, 11, 21, tzinfo=UTC)


async def test_the_clock_goes_on_from_what_the_database_said_and_counts_the_next_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    assert clock.expected() is None, "nothing was said yet"
    clock.told(Fence(NOW, 7))
    first = clock.expected()
    await asyncio.sleep(0)
    second = clock.expected()
    assert first is not None
    assert second is not None
    assert (first.turn, second.turn) == (8, 8)
    assert NOW <= first.now <= second.now
    monkeypatch.setattr("services.executor.engine.at_once.clock.TRUSTED", -1.0)
    assert clock.expected() is None, "what was said long ago is not reckoned with"


def test_a_beat_tells_the_clock_nothing_that_a_turn_has_overtaken() -> None:
    async def told() -> None:
        clock = Clock()
        clock.heard(Fence(NOW, 3))
        clock.told(Fence(NOW, 7))
        clock.heard(Fence(NOW, 6))
        found = clock.expected()
        assert found is not None
        assert found.turn == 8

    asyncio.run(told())


@asynccontextmanager
async def undisturbed(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Chassis]:
    """An executor to which nobody but who commits a start tells of the run, however long that takes."""
    monkeypatch.setattr("services.executor.engine.at_once.clock.TRUSTED", 3600.0)
    async with world.executor(poll_s=60) as chassis:
        await eventually(lambda: not engine_of(chassis).owner.wants_more)
        yield chassis


async def test_whoever_commits_a_start_claims_the_run_and_begins_it_in_one_statement(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh: list[UUID] = []

    async def noted(*values: Any) -> Any:
        fresh.extend(run_id for run_id, _ in values[-1])
        return await save(*values)

    save = at_once.save
    monkeypatch.setattr(at_once, "save", noted)
    async with undisturbed(world, monkeypatch):
        run_id = await world.start(noop("a"), noop("b", "a"))
        await world.until(run_id)
    assert fresh == [run_id]
    (row,) = await world.rows("select epoch, owner, wake_at from runs where id = $1", run_id)
    assert tuple(row) == (1, None, None)


async def test_a_run_that_got_an_order_right_after_its_start_is_read_before_it_begins(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes: list[bool] = []
    save = at_once.save

    async def once_canceled(*values: Any) -> Any:
        for run_id, _ in values[-1]:
            await world.order(run_id, "cancel")
        saved = await save(*values)
        outcomes.append(saved is not None)
        return saved

    monkeypatch.setattr(at_once, "save", once_canceled)
    async with undisturbed(world, monkeypatch):
        run_id = await world.start(noop("a"))
        ended = await world.until(run_id)
        assert ended.run.status is RunStatus.CANCELED
    assert outcomes[0] is False
    assert await world.rows("select from attempts where run_id = $1", run_id) == []


async def test_a_run_is_claimed_by_a_statement_that_had_to_wait_for_a_beat(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes: list[bool] = []
    save = at_once.save

    async def noted(*values: Any) -> Any:
        saved = await save(*values)
        outcomes.append(saved is not None)
        return saved

    async with undisturbed(world, monkeypatch) as chassis:
        monkeypatch.setattr(at_once, "save", noted)
        async with chassis.pool.acquire() as beat, beat.transaction():
            await beat.execute("update workers set lease_until = lease_until + interval '1 second'")
            run_id = await world.start(noop("a"))
            await eventually(lambda: waits_for_a_lock(chassis))
        await world.until(run_id)
    assert outcomes[0] is True


async def test_a_claim_leaves_runs_for_others_and_goes_on_while_there_are_any(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    bites: list[int] = []
    claim = store.claim_runs

    async def noted(*values: Any) -> Any:
        bites.append(len(rows := await claim(*values)))
        return rows

    async with world.executor(poll_s=60, concurrency=256) as chassis:
        engine_of(chassis).owner.draining = True
        run_ids = [await world.start(noop("a")) for _ in range(LARGEST_BITE + 8)]
        monkeypatch.setattr(store, "claim_runs", noted)
        engine_of(chassis).owner.draining = False
        engine_of(chassis)._inbox.look_around()
        await world.ended(run_ids)
    assert bites[:2] == [LARGEST_BITE, 8]


async def test_who_may_hold_one_run_at_a_time_takes_one_after_the_other(world: World) -> None:
    async with world.executor(poll_s=60, most_runs=1):
        await world.ended([await world.start(noop("a"), noop("b", "a")) for _ in range(5)])


async def test_a_run_that_its_executor_does_not_take_is_taken_by_another_at_once(world: World) -> None:
    async with world.executor(poll_s=60) as full, world.executor(poll_s=60):
        engine_of(full).owner.draining = True
        run_ids = [await world.start(noop("a")) for _ in range(8)]  # some of these are told to the one that takes none
        await world.ended(run_ids, timeout=20)


async def test_an_order_and_a_turn_take_the_run_and_its_story_in_the_same_order(
    world: World, model: FakeOpenAI
) -> None:
    """The order holds the run and has not told its fact yet when the turn that ends the run is written."""
    async with world.executor() as chassis:
        run_id = await world.start(agent("a", say="until-released"))
        await model.until(lambda: len(model.calls) == 1)
        async with chassis.pool.acquire() as order, order.transaction():
            await order.execute("select from runs where id = $1 for update", run_id)
            model.release()
            await eventually(lambda: waits_for_a_lock(chassis))
            await order.execute("select from stories where story = $1 for update nowait", str(run_id))
        await world.until(run_id)


async def test_a_bus_that_takes_nothing_holds_up_no_turn(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world.executor() as chassis:
        for_ever = asyncio.Event()
        stuck = SimpleNamespace(hand_over=lambda batches: for_ever.wait())
        monkeypatch.setattr(engine_of(chassis).committer, "_relay", stuck)
        run_id = await world.start(*(noop(f"n{i}", *([f"n{i - 1}"] if i else [])) for i in range(4)))
        await world.until(run_id)
        await eventually(lambda: all_is_published(chassis))  # by the sweeper


async def all_is_published(chassis: Chassis) -> bool:
    return not await chassis.pool.fetchval("select count(*) from outbox_batches where published_at is null")


async def test_an_attempt_that_nobody_works_on_is_written_once_when_it_ends(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, moves = [], Turn.moves

    def noted(turn: Turn) -> at_once.Moves:
        seen.append(moves(turn))
        return seen[-1]

    monkeypatch.setattr(Turn, "moves", noted)
    async with world.executor():
        run_id = await world.start(noop("a"), noop("b", "a"))
        await world.until(run_id)
    assert not any(turn.opened or turn.closed for turn in seen)
    rows = await world.rows(
        """select a.status, a.number, a.started_at = n.started_at, a.ended_at = n.ended_at
           from attempts a join nodes n on n.id = a.node_id where a.run_id = $1""",
        run_id,
    )
    assert [tuple(row) for row in rows] == [("succeeded", 1, True, True)] * 2


async def test_an_order_takes_the_story_before_the_node_as_a_turn_does_that_leaves_the_run_alone(
    world: World, model: FakeOpenAI
) -> None:
    async with world.executor() as chassis:
        run_id = await world.start(agent("a", say="until-released"), agent("b", say="stall:1"))
        await model.until(lambda: len(model.calls) == 2)
        async with chassis.pool.acquire() as order, order.transaction():
            assert await lock_run(order, "default", run_id) is not None
            model.release()
            await eventually(lambda: waits_for_a_lock(chassis))  # the turn with the result of a
            await order.execute("select from nodes where run_id = $1 for update nowait", run_id)
        await world.order(run_id, "cancel")
        await world.until(run_id)


async def test_what_is_being_started_when_an_executor_stops_is_let_finish_as_well(
    model: FakeOpenAI, world: World
) -> None:
    async with world.executor() as chassis:
        owner = engine_of(chassis).owner
        await world.until(await world.start(noop("a")))
        async with chassis.pool.acquire() as other, other.transaction():
            await other.execute("select from workers for update")
            run_id = await world.start(agent("a", say="slow:0.2 say:x"), agent("b", "a"))
            await eventually(lambda: waits_for_a_lock(chassis), what="the turn that starts a")
            draining = asyncio.create_task(owner.drain(60))
            await eventually(lambda: owner.draining)
        await draining
    assert [call.outcome for call in model.calls] == ["done"]
    statuses = await world.rows("select key, status from nodes where run_id = $1 order by key", run_id)
    assert [tuple(s) for s in statuses] == [("a", "completed"), ("b", "queued")]


async def waits_for_a_lock(chassis: Chassis) -> bool:
    waiting = (
        "select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')"
    )
    return bool(await chassis.pool.fetchval(waiting))


async def test_a_statement_that_was_sent_and_begins_late_writes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection broke, the turn is worked out anew, and only then the server gets to the first statement."""
    sent: list[Any] = []
    late: list[asyncio.Task[Any]] = []
    save, was_committed = at_once.save, store.was_committed

    async def cut_off(connection: Connection, *values: Any) -> Any:
        if sent:
            return await save(connection, *values)
        sent.extend(values)
        raise ConnectionResetError("cut off before the server had read it")

    async def then_it_begins(connection: Connection, worker: UUID, turn: int) -> bool:
        found = await was_committed(connection, worker, turn)
        late.append(asyncio.create_task(begin()))
        await asyncio.wait(late, timeout=0.5)  # it waits for the lock; without one it is through by then
        return found

    async def begin() -> Any:
        async with chassis.pool.acquire() as another:
            return await save(another, *sent)

    async with world.executor() as chassis:
        monkeypatch.setattr(at_once, "save", cut_off)
        monkeypatch.setattr(store, "was_committed", then_it_begins)
        run_id = await world.start(noop("a"), noop("b", "a"))
        await world.until(run_id)
        assert [await task for task in late] == [None]
    assert len(await world.rows("select from attempts where run_id = $1", run_id)) == 2
