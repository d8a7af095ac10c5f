"""A database that dies, and faults that only look like it: who is tried for ever, who is not, and what the log says."""

from __future__ import annotations

import asyncio
import shutil
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from uuid import uuid4

import asyncpg
import pytest
from structlog.testing import capture_logs

from chassis import outage, postgres
from chassis.context import Context
from chassis.job_table import Job
from chassis.keeper import Keeper
from chassis.outage import Outage
from chassis.postgres import CONNECTION_LOST, Pool, connect, create_pool, server_is_away
from chassis.service import Chassis
from chassis.testing.eventually import eventually
from chassis.testing.plugin import GIVEN, UNSAFE_BUT_FAST, _make_home
from chassis.testing.servers import Database, NatsServer, create_database, ensure_template
from contracts import executor, run_facts, streams
from contracts.envelope import Envelope
from contracts.errors import Code, Rejection
from deploy.local.parts import ready_now
from deploy.local.postgres import Postgres
from deploy.local.process import StartFailed
from tests.chassis.conftest import Start, fact, nothing
from tests.chassis.test_life import process

Work = Callable[[Pool], Awaitable[object]]


@pytest.fixture
def mortal() -> Iterator[Postgres]:
    """A Postgres of this test's own, to be killed and started again."""
    if GIVEN["DATABASE_URL"]:
        pytest.skip("the servers of this run are given, and may not be broken")
    home = _make_home()
    server = Postgres(home, **UNSAFE_BUT_FAST)
    start(server)
    yield server
    server.child.stop_now()
    shutil.rmtree(server.directory, ignore_errors=True)
    shutil.rmtree(home.path, ignore_errors=True)


def start(server: Postgres) -> None:
    """Postgres refuses until the backends of the one that died are gone: again, as the supervisor does."""
    deadline = time.monotonic() + 60
    while True:
        try:
            server.launch()
            ready_now(server)
            return
        except StartFailed:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def kill(server: Postgres, number: signal.Signals) -> None:
    server.child.signal(number)
    assert server.child.process is not None
    server.child.process.wait(60)


async def ask(pool: Pool) -> None:
    await pool.fetchval("select pg_sleep(0.01)")


async def change(pool: Pool) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("insert into seen values (1)")
        await asyncio.sleep(0.005)
        await connection.execute("insert into seen values (2)")


async def keep(pool: Pool) -> None:
    async with pool.acquire() as connection:
        while True:
            await connection.fetchval("select count(*) from seen")


async def reconnect(url: str) -> None:
    connection = await connect(url, "public")
    await connection.close()


async def errors_of(work: Callable[[], Awaitable[object]], into: list[Exception], stop: asyncio.Event) -> None:
    while not stop.is_set():
        try:
            await work()
        except Exception as error:
            into.append(error)
            await asyncio.sleep(0.02)


async def test_whatever_work_hears_of_a_server_that_dies_under_it_is_known_as_its_absence(mortal: Postgres) -> None:
    url, stop, errors = mortal.url(), asyncio.Event(), list[Exception]()
    pool = await create_pool(url, "public")
    await pool.execute("create table seen (n int)")
    works: list[Callable[[], Awaitable[object]]] = [lambda work=work: work(pool) for work in (ask, change, keep) * 2]  # type: ignore[misc]
    works.append(lambda: reconnect(url))
    loops = [asyncio.create_task(errors_of(work, errors, stop)) for work in works]
    for number in (signal.SIGKILL, signal.SIGINT, signal.SIGQUIT):
        heard = len(errors)
        kill(mortal, number)
        await eventually(lambda heard=heard: len(errors) > heard + 20)  # type: ignore[misc]
        start(mortal)
        await eventually(lambda: answers(pool))
    stop.set()
    for loop in loops:
        loop.cancel()
    await asyncio.gather(*loops, return_exceptions=True)
    await pool.close()
    assert [repr(e) for e in errors if not server_is_away(e)] == []
    assert all(isinstance(e, CONNECTION_LOST) for e in errors)


async def answers(pool: Pool) -> bool:
    try:
        return (await pool.fetchval("select 1")) == 1
    except CONNECTION_LOST:
        return False


async def two_at_once(pool: Pool) -> None:
    async with pool.acquire() as connection:
        await asyncio.gather(*(connection.fetchval("select pg_sleep(0.01)") for _ in range(2)))


async def too_long(pool: Pool) -> None:
    async with pool.acquire() as connection:
        await connection.execute("set statement_timeout = 10")
        await connection.execute("select pg_sleep(1)")


@pytest.mark.parametrize(
    "fault",
    [
        lambda pool: pool.fetchval("select $1::int", "no number"),
        two_at_once,
        too_long,
        lambda pool: pool.fetchval("select pg_sleep(1)", timeout=0.01),
        lambda pool: asyncio.to_thread(open, "/nothing/here"),
    ],
    ids=["a wrong argument", "two at once", "a statement's limit", "our own limit", "a missing file"],
)
async def test_a_fault_of_our_own_is_not_taken_for_a_server_that_is_away(fault: Work, database: Database) -> None:
    pool = await create_pool(database.url_for("planner"), "planner")
    [raised] = await asyncio.gather(_done(fault(pool)), return_exceptions=True)
    assert isinstance(raised, Exception)
    assert not server_is_away(raised), repr(raised)
    await pool.close()


async def _done(work: Awaitable[object]) -> object:
    return await work


async def test_a_server_that_is_not_found_or_says_nothing_is_away() -> None:
    listening = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)  # type: ignore[arg-type, return-value]
    port = listening.sockets[0].getsockname()[1]
    for url in (f"postgresql://u:p@127.0.0.1:{port}/x", "postgresql://u:p@nowhere.invalid/x"):
        with pytest.raises(postgres.Unreachable) as raised:
            await postgres._reach(url, timeout=0.2)
        assert server_is_away(raised.value)
        assert str(raised.value)
    listening.close()


@pytest.mark.parametrize("fault", [FileNotFoundError("no such template"), asyncpg.InterfaceError("a wrong argument")])
async def test_a_handler_that_always_fails_is_given_up_however_its_error_is_called(
    start: Start, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    monkeypatch.setattr("chassis.consumer.BACKOFF_BASE", 0.01)
    monkeypatch.setattr("chassis.job_attempt.BACKOFF_CAP", 0.2)

    async def build(chassis: Chassis) -> None:
        async def fail(*_: object) -> executor.RunDetail:
            raise fault

        async def on_completed(message: run_facts.RunCompleted, envelope: Envelope) -> None:
            raise fault

        async def work(job: Job) -> None:
            raise fault

        chassis.bus.on(streams.PLANNER_RUNS, {run_facts.RunCompleted: on_completed})
        chassis.bus.serve(executor.GetRun, fail)
        chassis.jobs.register("draft", work, max_attempts=3)

    async with start("planner", build) as service, start("executor", nothing) as other:
        async with other.uow.begin() as tx:
            tx.publish(fact())
        async with service.uow.begin() as tx:
            job = await service.jobs.enqueue(tx, "draft", "t", {}, company="default")
        assert (await service.jobs.wait(job, 60)).state == "failed"
        await eventually(lambda: buried(service), what="the dead letter")


async def buried(chassis: Chassis) -> bool:
    return bool((await chassis.dead_letters.list(10, 0)).total)


async def test_a_request_whose_handler_always_fails_is_told_so_and_not_to_come_again(start: Start) -> None:
    async def build(chassis: Chassis) -> None:
        async def fail(request: executor.GetRun, context: Context) -> executor.RunDetail:
            await chassis.pool.fetchval("select $1::int", "no number")
            raise AssertionError

        chassis.bus.serve(executor.GetRun, fail)

    async with start("executor", build), start("gateway", nothing) as caller:
        with pytest.raises(Rejection) as told:
            await caller.bus.ask(executor.GetRun(run_id=uuid4()), Context())
    assert told.value.failure.code is Code.INTERNAL


async def test_an_outage_is_two_lines_of_each_loop_and_no_traceback(
    mortal: Postgres, nats_server: NatsServer, keeper: Keeper
) -> None:
    database = await create_database(mortal.url(), await ensure_template(mortal.url()))
    there = {"DATABASE_URL": database.url_for("planner"), "NATS_URL": nats_server.url("planner")}
    async with process(**there) as service:
        await eventually(lambda: service.says("service.started"))
        kill(mortal, signal.SIGKILL)
        await eventually(lambda: service.says("Failed to restore the pool"))
        await eventually(lambda: service.says("relay.database_gone") and service.says("jobs.database_gone"))
        start(mortal)
        await eventually(lambda: service.says("relay.database_back") and service.says("jobs.database_back"))
        assert await service.told_to_end() == 0
    lines = [line for line in service.said if "database_" in line]
    assert len(lines) == 4, lines
    assert not service.says("Traceback"), service.said


def test_an_outage_is_told_once_and_tried_more_and_more_seldom_but_every_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    away, pauses = Outage("stream", stream="EVENTS"), []
    with capture_logs() as said:
        for _ in range(10):
            away.noticed(ConnectionResetError("gone"))
            pauses.append(away.pause())
            now[0] += 1.0
        away.over()
        away.over()
    assert [(line["event"], line["stream"]) for line in said] == [("stream_gone", "EVENTS"), ("stream_back", "EVENTS")]
    assert pauses[0] <= 0.1
    assert all(outage.LONGEST_PAUSE / 2 <= pause <= outage.LONGEST_PAUSE for pause in pauses[1:])
