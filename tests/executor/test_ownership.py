"""Who owns a run, and what happens when an owner dies, stops, stalls, or loses its database."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from contextlib import AbstractAsyncContextManager
from typing import Any
from uuid import UUID, uuid4

import pytest

from chassis.postgres import Connection, Pool, connect, create_pool
from chassis.service import Chassis
from chassis.testing.eventually import eventually
from chassis.testing.fake_behaviour import Behaviour
from chassis.testing.fake_openai import FakeOpenAI
from chassis.testing.outbox_table import UNPUBLISHED
from contracts.executor import NodeStatus, RunStatus
from services.executor.domain.facts import Succeeded
from services.executor.engine import committer, store
from services.executor.engine.at_once import store as at_once
from services.executor.engine.claims import rebuilt
from services.executor.engine.engine import Engine
from services.executor.engine.inbox import Report
from services.executor.engine.turn import Turn
from services.executor.engine.writing import write
from tests.executor.conftest import QUICK, World, agent, noop
from tests.killable import killable

CHAIN = [agent("n0"), *[agent(f"n{i}", f"n{i - 1}") for i in range(1, 6)]]


def engine_of(chassis: Chassis) -> Engine:
    found = chassis._background["engine"].__self__  # type: ignore[attr-defined]
    assert isinstance(found, Engine)
    return found


def a_process(world: World, **settings: float) -> AbstractAsyncContextManager[asyncio.subprocess.Process]:
    fields = {f"EXECUTOR_{name.upper()}": str(value) for name, value in (QUICK | settings).items()}
    urls = {"NATS_URL": world.nats.url("executor"), "DATABASE_URL": world.database.url_for("executor")}
    return killable("executor", urls | fields)


async def workers(world: World) -> dict[UUID, bool]:
    return {row["id"]: row["dead"] for row in await world.rows("select id, dead from workers order by started_at")}


async def executed_by(world: World) -> Counter[UUID]:
    rows = await world.rows("select worker_id, count(*) as n from attempts where status = 'succeeded' group by 1")
    return Counter({row["worker_id"]: row["n"] for row in rows})


async def calls_per_node(model: FakeOpenAI) -> Counter[str]:
    return Counter(call.user for call in model.calls if call.outcome == "done")


# sharing


async def test_two_executors_share_fifty_runs_and_every_node_is_executed_once(model: FakeOpenAI, world: World) -> None:
    async with world.executor(concurrency=4) as one, world.executor(concurrency=4) as two:
        start = [
            world.start(agent("a", say=f"say:{i}"), agent("b", "a", say=f"slow:0.02 say:{i}"), title=f"Run {i}")
            for i in range(50)
        ]
        details = await world.ended([await s for s in start])

        assert {d.run.status for d in details} == {RunStatus.COMPLETED}
        assert len(model.calls) == 100
        assert max((await calls_per_node(model)).values()) == 1
        shares = await executed_by(world)
        assert set(shares) == {engine_of(one).lease.worker, engine_of(two).lease.worker}
        assert min(shares.values()) >= 10


async def test_slots_are_never_exceeded_and_runs_take_turns(model: FakeOpenAI, world: World) -> None:
    wide = [agent(f"w{i}", say=f"slow:0.1 say:{i}") for i in range(24)]
    async with world.executor(concurrency=2):
        first = await world.start(*wide, title="Wide")
        await model.until(lambda: len(model.calls) >= 2)
        second = await world.start(agent("s", say="say:small"), title="Small")
        await world.ended([first, second])
    spans = [(c.at, c.ended_at or c.at) for c in model.calls]
    assert max(sum(a <= at < b for a, b in spans) for at, _ in spans) <= 2
    small = next(i for i, call in enumerate(model.calls) if "Small" in call.user)
    assert small < len(model.calls) - 4, "the small run waited for all of the wide one"


# dying


async def test_a_killed_executors_runs_go_on_elsewhere_and_no_finished_node_is_paid_twice(
    model: FakeOpenAI, world: World
) -> None:
    async with a_process(world) as victim:
        await eventually(lambda: workers(world))
        run_id = await world.start(*[n.model_copy(update={"instructions": f"slow:0.2 say:{n.key}"}) for n in CHAIN])
        await model.until(lambda: len(model.calls) == 3)
        victim.send_signal(signal.SIGKILL)
        await victim.wait()
        await world.end_leases()
        async with world.executor():
            detail = await world.until(run_id)
    assert detail.run.status is RunStatus.COMPLETED
    assert max((await calls_per_node(model)).values()) == 1
    attempts = await world.rows("select status from attempts where run_id = $1", run_id)
    assert Counter(a["status"] for a in attempts) == {"succeeded": 6, "lost": 1}
    assert sum(n.attempt for n in detail.nodes or []) == 7
    assert next(iter((await workers(world)).values())) is True


async def test_a_stopped_executor_that_wakes_up_after_its_lease_changes_nothing(
    model: FakeOpenAI, world: World
) -> None:
    """SIGSTOP past the lease, with a model call under way: its result comes back to a zombie."""
    async with a_process(world, lease_s=1.5) as zombie:
        await eventually(lambda: workers(world))
        run_id = await world.start(agent("a", say="until-released say:once"), agent("b", "a"))
        await model.until(lambda: len(model.calls) == 1)
        zombie.send_signal(signal.SIGSTOP)
        model.release()
        async with world.executor() as heir:
            await world.until(run_id)
            before = await world.rows("select * from nodes order by key")
            zombie.send_signal(signal.SIGCONT)
            await eventually(lambda: _incarnations(world, 3), what="the zombie noticed and registered anew")
            later = await world.start(noop("x"))
            await world.until(later)
            assert await world.rows("select * from nodes where run_id = $1 order by key", run_id) == before
            winner = engine_of(heir).lease.worker
    assert set(await _winners(world, run_id)) == {winner}


async def _incarnations(world: World, count: int) -> bool:
    return len(await workers(world)) >= count


async def _winners(world: World, run_id: UUID) -> list[UUID]:
    rows = await world.rows("select worker_id from attempts where run_id = $1 and status = 'succeeded'", run_id)
    return [row["worker_id"] for row in rows]


async def test_whoever_was_declared_dead_writes_nothing_more(model: FakeOpenAI, world: World) -> None:
    async with world.executor(reconcile_s=3600) as chassis:  # who would free the run for another attempt
        engine = engine_of(chassis)
        run_id = await world.start(agent("a", say="stall:1"))
        await model.until(lambda: len(model.calls) == 1)
        first = engine.lease.worker
        await world.rows("update workers set dead = true where id = $1", first)

        engine._inbox.report(Report(run_id, Succeeded("a", 1)))

        await eventually(lambda: engine.lease.worker != first)
        node = (await world.nodes(run_id))["a"]
        assert (node.status, node.attempt) == (NodeStatus.RUNNING, 1)
        await eventually(lambda: [c.outcome for c in model.calls] == ["disconnected"])
        assert engine.owner.held == {}


async def test_an_executor_that_stops_hands_its_runs_back(model: FakeOpenAI, world: World) -> None:
    async with world.executor(drain_s=0):
        run_id = await world.start(agent("a", say="stall:1"), agent("b", "a"))
        await model.until(lambda: len(model.calls) == 1)
    assert model.calls[0].outcome == "disconnected"
    row = (await world.rows("select owner, wake_at <= clock_timestamp() as waits, status from runs"))[0]
    assert (row["owner"], row["waits"], row["status"]) == (None, True, "running")
    assert list((await workers(world)).values()) == [True]
    model.script(Behaviour(text="one"), Behaviour(text="two"))
    async with world.executor():
        detail = await world.until(run_id)
    assert detail.run.status is RunStatus.COMPLETED
    assert (await world.rows("select losses from nodes where key = 'a'"))[0]["losses"] == 0


async def test_an_executor_that_stops_lets_what_runs_finish(model: FakeOpenAI, world: World) -> None:
    async with world.executor(drain_s=10) as chassis:
        run_id = await world.start(agent("a", say="until-released say:finished"), agent("b", "a"))
        await model.until(lambda: len(model.calls) == 1)
        engine_of(chassis).owner.draining = True
        model.release()
    assert [c.outcome for c in model.calls] == ["done"]
    statuses = await world.rows("select key, status from nodes where run_id = $1 order by key", run_id)
    assert [tuple(s) for s in statuses] == [("a", "completed"), ("b", "queued")]


async def test_a_run_in_which_nothing_happens_is_given_away_and_woken_by_an_order(
    model: FakeOpenAI, world: World
) -> None:
    async with world.executor(quiet_s=0.2) as chassis:
        run_id = await world.start(agent("a", say="until-released say:x"), agent("b", "a"))
        await world.order(run_id, "pause")
        model.release()
        await world.until(run_id, RunStatus.PAUSED)
        await eventually(lambda: not engine_of(chassis).owner.held)
        row = (await world.rows("select owner, wake_at from runs"))[0]
        assert tuple(row) == (None, None)
        await world.order(run_id, "resume")
        assert (await world.until(run_id)).run.status is RunStatus.COMPLETED


async def test_a_run_that_waits_long_for_a_retry_is_given_away_until_it_falls_due(
    model: FakeOpenAI, world: World
) -> None:
    async with world.executor(quiet_s=0.1, reconcile_s=3600) as chassis:
        run_id = await world.start(agent("a", say="fail:500:1 retry-after:600 say:x"))
        await eventually(lambda: _given_away(world))
        await eventually(lambda: not engine_of(chassis).owner.held)
        await world.rows(  # ten minutes later
            """with due as (update nodes set due_at = clock_timestamp() returning due_at)
               update runs set wake_at = due.due_at from due"""
        )
        assert (await world.until(run_id)).run.status is RunStatus.COMPLETED
    epochs = await world.rows("select epoch from runs")
    assert epochs[0]["epoch"] == 2


async def _given_away(world: World) -> bool:
    rows = await world.rows(
        "select owner is null and wake_at = due_at as away from runs join nodes on nodes.run_id = runs.id"
    )
    return bool(rows and rows[0]["away"])


# losing the database


async def test_a_database_that_breaks_every_connection_loses_nothing(model: FakeOpenAI, world: World) -> None:
    async with world.executor():
        ids = [
            await world.start(*[agent(n.key, *n.deps, say=f"slow:0.1 say:{n.key}") for n in CHAIN]) for _ in range(3)
        ]
        for calls in (4, 8, 12):
            await model.until(lambda n=calls: len(model.calls) >= n)
            await _break_connections(world)
        details = await world.ended(ids)
    assert {d.run.status for d in details} == {RunStatus.COMPLETED}
    assert len(model.calls) == 18, "a result was dropped and paid for again"


async def _break_connections(world: World) -> None:
    import asyncpg

    admin = await asyncpg.connect(world.database.url)
    await admin.execute(
        """select pg_terminate_backend(pid) from pg_stat_activity
           where datname = current_database() and usename like '%executor%' and pid <> pg_backend_pid()"""
    )
    await admin.close()


OF_TWO_NODES = {"run.queued": 1, "run.started": 1, "node.started": 2, "node.completed": 2, "run.completed": 1}


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_connection_that_breaks_in_the_commit_neither_loses_nor_doubles_it(
    world: World, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """The commit arrives or does not, and the committer is not told which: it asks the database."""
    monkeypatch.setattr("services.executor.engine.at_once.prepared.is_plain", lambda batch: False)
    broken: list[int] = []

    async def write_then_break(connection: Any, worker: UUID, turn: Turn) -> None:
        await write(connection, worker, turn)
        if any(c.run.status is RunStatus.COMPLETED for c in turn.changes.values()) and not broken:
            broken.append(turn.number)
            if when == "after":
                await connection.execute("commit")
            connection.terminate()

    monkeypatch.setattr(committer, "write", write_then_break)
    async with world.executor() as chassis:
        run_id = await world.start(noop("a"), noop("b", "a"))
        await eventually(lambda: broken and not engine_of(chassis).owner.held, what="the committer made up its mind")
        facts = await world.facts(run_id)
    assert Counter(facts) == OF_TWO_NODES


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_connection_that_breaks_in_a_turn_of_one_statement_neither_loses_nor_doubles_it(
    world: World, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    broken: list[int] = []
    original = at_once.save

    async def save_and_break(connection: Any, worker: UUID, number: int, *rest: Any) -> Any:
        if broken:
            return await original(connection, worker, number, *rest)
        broken.append(number)
        if when == "after":
            await original(connection, worker, number, *rest)
        connection.terminate()
        raise ConnectionResetError("in the middle of the commit")

    monkeypatch.setattr(at_once, "save", save_and_break)
    async with world.executor():
        run_id = await world.start(noop("a"), noop("b", "a"))
        await world.until(run_id)
        assert broken
        facts = await world.facts(run_id)
        await eventually(lambda: _all_published(world), what="also what only the sweeper knows of")
    assert Counter(facts) == OF_TWO_NODES


async def _all_published(world: World) -> bool:
    (row,) = await world.rows(UNPUBLISHED)
    return row["count"] == 0


async def test_a_turn_of_one_statement_writes_nothing_without_the_lease(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[int] = []
    original = at_once.save

    async def lose_the_lease_first(connection: Any, worker: UUID, number: int, *rest: Any) -> Any:
        if not refused:
            await world.rows("update workers set dead = true where id = $1", worker)
        if (saved := await original(connection, worker, number, *rest)) is None:
            refused.append(number)
            written = await world.rows("select from nodes where status = 'completed'")
            assert not written
        return saved

    monkeypatch.setattr(at_once, "save", lose_the_lease_first)
    async with world.executor():
        run_id = await world.start(noop("a"), noop("b", "a"))
        await eventually(lambda: refused)
        await world.rows(
            "update runs set owner = null, wake_at = clock_timestamp()"
        )  # as whoever declares it dead does
        assert (await world.until(run_id)).run.status is RunStatus.COMPLETED


# the claims


async def test_an_expired_worker_is_buried_once_and_its_runs_are_free(world: World) -> None:
    pool = await create_pool(world.database.url_for("executor"), "executor")
    dead, alive = uuid4(), uuid4()
    await store.register_worker(pool, dead, "host", 1, 0.0)
    await store.register_worker(pool, alive, "host", 2, 60.0)
    for owner in (dead, alive):
        await _insert_run(world, owner)
    assert await store.bury_expired_workers(pool) == 1
    assert await store.bury_expired_workers(pool) == 0
    assert not await store.renew_lease(pool, dead, 60)
    owners = [row["owner"] for row in await world.rows("select owner from runs")]
    assert sorted(map(str, owners)) == sorted(["None", str(alive)])
    await pool.close()


async def test_a_worker_in_the_middle_of_a_commit_is_not_declared_dead_under_it(world: World) -> None:
    url = world.database.url_for("executor")
    pool, committing = await create_pool(url, "executor"), await connect(url, "executor", **store.COMMITTER_SETTINGS)
    async with committing.transaction():
        worker = await eventually(lambda: _fenced(pool, committing), what="a turn that begins within so short a lease")
        await eventually(lambda: _expired(world))
        assert await store.bury_expired_workers(pool) == 0
        assert not (await workers(world))[worker]
    await store.bury_expired_workers(pool)
    assert (await workers(world))[worker]
    async with committing.transaction():
        assert await store.fence(committing, worker) is None
    await committing.close()
    await pool.close()


async def _fenced(pool: Pool, committing: Connection) -> UUID | None:
    await store.register_worker(pool, worker := uuid4(), "host", 1, 0.3)
    return worker if await store.fence(committing, worker) is not None else None


async def test_what_became_of_a_commit_is_known_also_when_the_database_forgot_the_transaction(world: World) -> None:
    url = world.database.url_for("executor")
    first, second = [await connect(url, "executor", **store.COMMITTER_SETTINGS) for _ in range(2)]
    worker, pool = uuid4(), await create_pool(url, "executor")
    await store.register_worker(pool, worker, "host", 1, 60)
    async with first.transaction():
        done = await store.fence(first, worker)
    undone = first.transaction()
    await undone.start()
    cut_off = await store.fence(first, worker)
    assert done is not None
    assert cut_off is not None
    asked = asyncio.create_task(store.was_committed(second, worker, cut_off.turn))
    await eventually(lambda: _somebody_waits(world), what="the question waiting for the open transaction")
    await undone.rollback()
    assert await asked is False
    assert await store.was_committed(second, worker, done.turn)
    assert not await store.was_committed(second, worker, 10**9)
    for connection in (first, second, pool):
        await connection.close()


async def _somebody_waits(world: World) -> bool:
    return bool((await world.rows("select exists (select from pg_locks where not granted) as waits"))[0]["waits"])


async def test_a_run_that_is_given_away_while_an_order_comes_in_is_not_slept_over(world: World) -> None:
    url = world.database.url_for("executor")
    pool, connection = await create_pool(url, "executor"), await connect(url, "executor")
    worker = uuid4()
    await store.register_worker(pool, worker, "host", 1, 60)
    async with world.executor(poll_s=60) as chassis:
        engine_of(chassis).owner.draining = True
        run_id = await world.start(noop("a"))
        (row,) = await store.claim_runs(connection, worker, 9, 0)
        run, _ = rebuilt(row, await store.nodes_of_runs(connection, [run_id]))
        await world.order(run_id, "cancel")
        now = (await store.fence(connection, worker)).now  # type: ignore[union-attr]
        await at_once.save_within(connection, worker, now, at_once.Moves([], [], [], [], [(run, True, None)]), [])
        assert (await store.what_waits(pool, worker))[0] is True
        (again,) = await store.claim_runs(connection, worker, 0, 0)
        assert again["id"] == run_id
        orders = await store.take_orders(connection, worker, [run_id])
        assert [(o.kind, o.more) for o in orders] == [("cancel", False)]
    await connection.close()
    await pool.close()


async def test_a_run_that_cannot_be_read_stops_nobody_else(world: World) -> None:
    async with world.executor(poll_s=60) as chassis:
        engine_of(chassis).owner.draining = True
        bad, good = await world.start(noop("a")), await world.start(noop("a"))
        await world.rows("update nodes set deps = '{nowhere}' where run_id = $1", bad)
        engine_of(chassis).owner.draining = False
        engine_of(chassis)._inbox.look_around()
        await world.until(good)
        aside = await world.rows("select owner, wake_at > clock_timestamp() as later from runs where id = $1", bad)
        assert tuple(aside[0]) == (None, True)


async def test_nothing_is_started_on_a_lease_that_may_be_over(world: World) -> None:
    async with world.executor(poll_s=0.05, lease_s=300) as chassis:  # a beat a minute
        lease = engine_of(chassis).lease
        await eventually(lease.is_fresh)
        renewed, lease._renewed = lease._renewed, lease._renewed - 211
        run_id = await world.start(noop("a"))
        await world.order(run_id, "pause")
        await world.order(run_id, "resume")
        assert set(await world.facts(run_id)) == {"run.queued", "run.control_asked"}
        lease._renewed = renewed
        await world.until(run_id, RunStatus.COMPLETED)


async def _expired(world: World) -> bool:
    return bool((await world.rows("select bool_and(lease_until < clock_timestamp()) as over from workers"))[0]["over"])


async def _insert_run(world: World, owner: UUID) -> None:
    await world.rows(
        """insert into runs (id, company_id, project_id, title, gate, dry_run, meta, context, owner)
           values ($1, 'default', 'default', 't', 'off', false, '{}', '{}', $2)""",
        uuid4(),
        owner,
    )


async def test_a_run_keeps_the_provider_it_was_started_with(
    model: FakeOpenAI, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken up after a restart with other settings, it must neither fail nor spend what nobody asked for."""
    async with world.executor() as chassis:
        engine_of(chassis).owner.draining = True
        run_id = await world.start(agent("a"))
    monkeypatch.setenv("LLM_DEFAULT_PROVIDER", "demo")
    async with world.executor():
        assert (await world.until(run_id)).run.status is RunStatus.COMPLETED
    assert len(model.calls) == 1
