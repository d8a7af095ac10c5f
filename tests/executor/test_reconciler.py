"""What should not happen is planted by hand, found, mended, counted and told; where all is well nothing is touched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from uuid import UUID, uuid4

import pytest
from structlog.testing import capture_logs

from chassis.service import Chassis
from chassis.telemetry import RECONCILED
from chassis.testing.eventually import eventually
from chassis.testing.fake_openai import FakeOpenAI
from contracts.errors import Rejection
from contracts.executor import NodeStatus, RunNode, RunStatus
from services.executor.reconciling.reconciler import Reconciler
from services.executor.reconciling.store import Kind
from tests.executor.conftest import FACT, World, agent, noop
from tests.executor.test_ownership import engine_of

OFTEN = {"reconcile_s": 0.05}
#: one look as it starts, and no other
SELDOM = {"reconcile_s": 3600, "stall_seconds": 1}


def fixes() -> dict[str, float]:
    return {kind: RECONCILED.labels(kind)._value.get() for kind in Kind}


def reconciler(chassis: Chassis, stall: float = 900, every: float = 3600) -> Reconciler:
    return Reconciler(chassis.pool, chassis.uow, chassis.bus, every=every, stall=stall)


async def repaired(world: World, chassis: Chassis, run_id: UUID, kind: Kind) -> None:
    """One look finds it, counts it and tells it once; another look finds nothing."""
    before = fixes()
    await reconciler(chassis).look()
    assert fixes() == before | {kind: before[kind] + 1}
    told = await world.fact(run_id, "executor.run.repaired")
    assert told["repair"] == kind
    assert told["detail"]
    after = fixes()
    await reconciler(chassis).look()
    assert fixes() == after


@asynccontextmanager
async def trusting(world: World, **fields: float) -> AsyncIterator[Chassis]:
    """An executor that has had its own first look: it neither mends what is planted from now on, nor is at it just when
    the test looks."""
    async with world.executor(**SELDOM, **fields) as chassis:
        await eventually(lambda: _has_looked(chassis))
        yield chassis


async def _has_looked(chassis: Chassis) -> bool:
    own = chassis._background["reconciler"].__self__  # type: ignore[attr-defined]
    if not own._listened:
        return False
    async with own._alone() as alone:
        return bool(alone)


@asynccontextmanager
async def resting(world: World) -> AsyncIterator[Chassis]:
    """An executor that answers, and moves nothing until it is told to."""
    async with trusting(world) as chassis:
        await eventually(engine_of(chassis).lease.is_fresh)
        engine_of(chassis).owner.draining = True
        yield chassis
        engine_of(chassis).owner.draining = False


def wake(chassis: Chassis) -> None:
    engine_of(chassis).owner.draining = False
    engine_of(chassis)._inbox.look_around()


async def test_a_busy_system_in_good_health_is_left_alone(model: FakeOpenAI, world: World) -> None:
    before = fixes()
    async with world.executor(concurrency=4, quiet_s=0.05, **OFTEN), world.executor(concurrency=4, **OFTEN):
        ids = [await world.start(*_a_plan(i), title=f"Run {i}") for i in range(50)]
        for action, some in (("pause", ids[40::2]), ("cancel", ids[41::2]), ("resume", ids[40::2])):
            for run_id in some:
                with suppress(Rejection):  # it may be over
                    await world.order(run_id, action)
        await world.ended(ids)
    assert fixes() == before
    told = {row["type"] for row in await world.rows(f"select distinct {FACT} as type from outbox")}
    assert "run.completed" in told
    assert not told & {"run.repaired", "run.stalled"}


def _a_plan(number: int) -> list[RunNode]:
    trouble = "fail:500:1 " if number % 10 == 0 else ""
    first = agent("a", say=f"slow:0.02 say:{number}")
    return [first, agent("b", "a", say=f"{trouble}say:{number}"), noop("c", "b")]


async def test_the_run_of_a_dead_executor_that_was_not_freed_is_freed(world: World) -> None:
    async with resting(world) as chassis:
        run_id, dead = await world.start(noop("a")), uuid4()
        await world.rows(
            "insert into workers (id, host, pid, lease_until, dead) values ($1, 'h', 1, now(), true)", dead
        )
        await world.rows("update runs set owner = $1, wake_at = null", dead)
        await repaired(world, chassis, run_id, Kind.OWNER_GONE)
        wake(chassis)
        await world.until(run_id, RunStatus.COMPLETED)


@pytest.mark.parametrize(
    "damage",
    [
        "update runs set wake_at = null",
        "update runs set wake_at = null, status = 'running', started_at = now()",
        "update runs set wake_at = null, status = 'running', deadline_at = now() - interval '1 s', timeout = '1 s'",
    ],
)
async def test_a_run_that_could_move_and_is_slept_over_is_woken(world: World, damage: str) -> None:
    async with resting(world) as chassis:
        run_id = await world.start(noop("a"), timeout_s=1)
        await world.rows(damage)
        await repaired(world, chassis, run_id, Kind.ASLEEP)
        wake(chassis)
        await world.until(run_id)


async def test_a_signal_that_nothing_wakes_anybody_for_is_seen(world: World) -> None:
    async with resting(world) as chassis:
        run_id = await world.start(noop("a"))
        await world.order(run_id, "pause")
        await world.rows("update runs set wake_at = null")
        await repaired(world, chassis, run_id, Kind.ASLEEP)
        wake(chassis)
        await world.until(run_id, RunStatus.PAUSED)


async def test_a_node_that_runs_in_a_run_that_nobody_owns_is_taken_up(model: FakeOpenAI, world: World) -> None:
    async with resting(world) as chassis:
        run_id = await world.start(agent("a"))
        await world.rows("update nodes set status = 'running', attempt = 1")
        await world.rows("update runs set status = 'running', wake_at = null")
        await world.rows(
            """insert into attempts (node_id, number, run_id, company_id, worker_id, started_at)
               select id, 1, run_id, company_id, $1, now() from nodes""",
            uuid4(),
        )
        await repaired(world, chassis, run_id, Kind.ASLEEP)
        wake(chassis)
        detail = await world.until(run_id, RunStatus.COMPLETED)
        assert (detail.nodes or [])[0].attempt == 2


@pytest.mark.parametrize("wake_at", ["null", "now() + interval '1 hour'"])
async def test_a_run_whose_nodes_have_all_ended_is_ended(world: World, wake_at: str) -> None:
    async with resting(world) as chassis:
        run_id = await world.start(noop("a"))
        await world.rows("update nodes set status = 'running'")
        await world.rows("update nodes set status = 'completed', ended_at = now()")
        await world.rows(f"update runs set status = 'running', wake_at = {wake_at}")
        await repaired(world, chassis, run_id, Kind.NOT_ENDED)
        wake(chassis)
        await world.until(run_id, RunStatus.COMPLETED)


@pytest.mark.parametrize(
    ("damage", "end"),
    [("wanted = 'cancel'", RunStatus.CANCELED), ("wanted = 'pause'", RunStatus.PAUSED)],
)
async def test_an_order_that_was_lost_is_given_again(world: World, damage: str, end: RunStatus) -> None:
    async with resting(world) as chassis:
        run_id = await world.start(noop("a"))
        await world.rows(f"update runs set {damage}")
        await repaired(world, chassis, run_id, Kind.ORDER_LOST)
        wake(chassis)
        await world.until(run_id, end)


async def test_a_resume_that_was_lost_is_given_again(world: World) -> None:
    async with trusting(world, quiet_s=0) as chassis:
        engine_of(chassis).owner.draining = True
        run_id = await world.start(noop("a"))
        await world.order(run_id, "pause")
        wake(chassis)
        await world.until(run_id, RunStatus.PAUSED)
        await eventually(lambda: not engine_of(chassis).owner.held)
        await world.rows("update runs set wanted = 'run'")
        await reconciler(chassis).look()
        assert (await world.until(run_id)).run.status is RunStatus.COMPLETED
        assert (await world.fact(run_id, "executor.run.repaired"))["repair"] == Kind.ORDER_LOST


async def test_attempts_that_nobody_works_on_count_as_lost(world: World) -> None:
    async with trusting(world) as chassis:
        run_id = await world.start(noop("a"))
        await world.until(run_id)
        await world.rows("update attempts set status = 'running', ended_at = null")
        await repaired(world, chassis, run_id, Kind.ATTEMPT_LEFT)
        assert [row["status"] for row in await world.rows("select status from attempts")] == ["lost"]


async def test_nodes_that_run_in_a_run_that_has_ended_end_with_it(model: FakeOpenAI, world: World) -> None:
    async with trusting(world) as chassis:
        run_id = await world.start(agent("a", say="fail:400:9"))
        await world.until(run_id, RunStatus.FAILED)
        await world.rows("update nodes set status = 'queued', ended_at = null")
        await world.rows("update nodes set status = 'running'")
        await repaired(world, chassis, run_id, Kind.NODE_LEFT)
        assert (await world.nodes(run_id))["a"].status == "failed"


async def test_nodes_are_looked_through_a_stretch_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from services.executor.reconciling import reconciler as module

    monkeypatch.setattr(module, "STRETCH", 2)
    async with trusting(world) as chassis:
        run_id = await world.start(*[noop(f"n{i}") for i in range(7)])
        await world.until(run_id)
        last = await world.rows("select node_id from attempts order by node_id desc limit 1")
        await world.rows(
            "update attempts set status = 'running', ended_at = null where node_id = $1", last[0]["node_id"]
        )
        looks, found = reconciler(chassis), fixes()
        for _ in range(4):
            assert fixes() == found
            await looks.look()
        assert fixes() == found | {Kind.ATTEMPT_LEFT: found[Kind.ATTEMPT_LEFT] + 1}


async def test_a_surprise_is_logged_and_the_next_look_mends(world: World) -> None:
    """What mends must not end the process, whatever stands in its way."""
    async with resting(world) as chassis:
        run_id = await world.start(noop("a"))
        await world.rows("update runs set wake_at = null")
        await world.rows("alter table runs add constraint a_surprise check (wake_at is null)")
        stop, looks = asyncio.Event(), reconciler(chassis, every=0.05)
        with capture_logs() as said:
            looking = asyncio.create_task(looks.run(stop))
            await eventually(lambda: [line for line in said if line["event"] == "reconciler.look_failed"][1:])
            await world.rows("alter table runs drop constraint a_surprise")
            await eventually(lambda: _told_of_repair(world, run_id))
            stop.set()
            await looking


async def _told_of_repair(world: World, run_id: UUID) -> bool:
    return "run.repaired" in await world.facts(run_id)


async def test_only_one_of_all_executors_looks(world: World) -> None:
    async with resting(world) as chassis:
        await world.start(noop("a"))
        await world.rows("update runs set wake_at = null")
        one, other, before = reconciler(chassis), reconciler(chassis), fixes()
        async with one._alone() as alone:
            assert alone
            await other.look()
            assert fixes() == before
        await other.look()
        assert fixes()[Kind.ASLEEP] == before[Kind.ASLEEP] + 1


async def test_a_run_in_which_nothing_happens_is_told_of_once_per_silence(model: FakeOpenAI, world: World) -> None:
    from tests.executor.test_steering import steer, until_node

    async with trusting(world) as chassis:
        run_id = await world.start(agent("a", say="until-released say:x"), agent("b", "a"))
        await model.until(lambda: len(model.calls) == 1)
        await steer(world, run_id, "b", "pause")
        await until_node(world, run_id, "b", NodeStatus.PAUSED)
        looks = reconciler(chassis, stall=0.01)
        await looks.look()
        assert "run.stalled" not in await world.facts(run_id), "a call is under way"
        model.release()
        await until_node(world, run_id, "a", NodeStatus.COMPLETED)
        for _ in range(3):
            await eventually(lambda: _looked(looks, world, run_id))
        assert (await world.facts(run_id)).count("run.stalled") == 1
        assert (await world.fact(run_id, "executor.run.stalled"))["waiting"] == ["paused"]
        await steer(world, run_id, "b", "resume")
        await world.until(run_id)


async def _looked(looks: Reconciler, world: World, run_id: UUID) -> bool:
    await looks.look()
    return "run.stalled" in await world.facts(run_id)
