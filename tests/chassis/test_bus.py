"""Requests and facts over the real bus: answers, refusals, bugs, large bodies, duplicates, poison."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from uuid import uuid4

import pytest

from chassis.bus import Bus
from chassis.context import Context
from chassis.live import SlowWatcher
from chassis.postgres import Connection
from chassis.service import Chassis
from chassis.testing.eventually import eventually
from chassis.testing.outbox_table import headers_in
from chassis.testing.servers import NatsServer
from contracts import executor, planner, run_facts, streams
from contracts.catalog import OWNER_REQUESTS
from contracts.envelope import Envelope
from contracts.errors import Code, Rejection, RetryLater
from contracts.page import Page
from tests.chassis.conftest import Start, fact, nothing
from tests.gateway.proxy import proxied


def a_run(title: str = "a run") -> executor.Run:
    return executor.Run.model_validate(
        {
            "id": uuid4(),
            "company_id": "default",
            "project_id": "default",
            "task_id": None,
            "plan_id": None,
            "title": title,
            "status": "queued",
            "wanted": "run",
            "pause_reasons": [],
            "gate": "off",
            "dry_run": False,
            "error": None,
            "request_id": "r",
            "meta": {},
            "created_at": "2026-01-01T00:00:00Z",
            "started_at": None,
            "ended_at": None,
        }
    )


async def test_an_answer_a_refusal_a_bug_and_a_bad_request_all_come_back_as_what_they_are(start: Start) -> None:
    async def build(chassis: Chassis) -> None:
        async def get(request: executor.GetRun, context: Context) -> executor.RunDetail:
            raise Rejection(Code.NOT_FOUND, "no such run", run_id=str(request.run_id))

        async def list_(request: executor.ListRuns, context: Context) -> Page[executor.Run]:
            if request.title_contains == "boom":
                raise ZeroDivisionError
            return Page(items=[a_run(context.request_id)], total=1)

        chassis.bus.serve(executor.GetRun, get)
        chassis.bus.serve(executor.ListRuns, list_)

    async with start("executor", build), start("planner", nothing) as caller:
        page = await caller.bus.ask(executor.ListRuns(), Context(request_id="abc"))
        assert page.items[0].title == "abc", "the request id travels in the headers"
        run_id = uuid4()
        with pytest.raises(Rejection) as refused:
            await caller.bus.ask(executor.GetRun(run_id=run_id), Context())
        assert refused.value.failure.code is Code.NOT_FOUND
        assert refused.value.failure.details == {"run_id": str(run_id)}
        with pytest.raises(Rejection) as broke:
            await caller.bus.ask(executor.ListRuns(title_contains="boom"), Context())
        assert broke.value.failure.code is Code.INTERNAL
        assert "ZeroDivision" not in broke.value.failure.message, "a bug's insides stay in the log"
        raw = await caller.bus.nc.request(executor.GetRun.subject(), b'{"run_id": 7}', timeout=60)
        assert b'"invalid"' in raw.data


async def test_nobody_there_is_said_at_once(start: Start) -> None:
    async with start("planner", nothing) as caller:
        with pytest.raises(RetryLater, match="executor is not running"):
            await caller.bus.ask(executor.ListRuns(), Context())


async def test_large_requests_and_answers_travel_by_reference(start: Start) -> None:
    async def build(chassis: Chassis) -> None:
        async def create(request: planner.CreatePlan, context: Context) -> planner.Plan:
            return planner.Plan.model_validate(
                {
                    "id": uuid4(),
                    "plan_id": uuid4(),
                    "task_id": request.task_id,
                    "status": "ready",
                    "version": 1,
                    "graph": request.graph,
                    "errors": ["x" * 600_000],
                    "assignments": [],
                    "created_at": "2026-01-01T00:00:00Z",
                    "updated_at": "2026-01-01T00:00:00Z",
                }
            )

        chassis.bus.serve(planner.CreatePlan, create)

    nodes = [{"id": f"n{i}", "title": "t", "notes": "é" * 2_000} for i in range(60)]
    order = planner.CreatePlan.model_validate({"command_id": uuid4(), "task_id": uuid4(), "graph": nodes})
    async with start("planner", build), start("gateway", nothing) as caller:
        plan = await caller.bus.ask(order, Context())
    assert plan.graph == order.graph
    assert len(plan.errors[0]) == 600_000


async def test_the_same_message_ten_times_shuffled_has_one_effect(start: Start) -> None:
    seen: list[int] = []

    async def build(chassis: Chassis) -> None:
        await chassis.pool.execute("create table effects (run_id uuid)")

        async def on_completed(message: run_facts.RunCompleted, envelope: Envelope) -> None:
            async with chassis.uow.handling(envelope, "planner-runs") as tx:
                await tx.conn.execute("insert into effects values ($1)", message.run_id)
            seen.append(envelope.sequence)

        chassis.bus.on(streams.PLANNER_RUNS, {run_facts.RunCompleted: on_completed})

    async with start("planner", build) as consumer, start("executor", nothing) as emitter:
        run_id = uuid4()
        async with emitter.uow.begin() as tx:
            tx.publish(*(fact(run_id, n) for n in range(20)))
        await eventually(lambda: len(seen) == 20)
        rows = await emitter.pool.fetch(
            "select message_id, story, sequence, subject, head, body from outbox order by random()"
        )
        for _ in range(10):
            for n, row in enumerate(rows):  # past JetStream's own deduplication: another Nats-Msg-Id, same ce-id
                headers = headers_in(row["head"]) | {
                    "ce-id": str(row["message_id"]),
                    "ce-subject": row["story"],
                    "ce-sequence": str(row["sequence"]),
                    "Nats-Msg-Id": f"{uuid4()}-{n}",
                }
                await emitter.bus.nc.jetstream().publish(row["subject"], row["body"], headers=headers)
        js = consumer.bus.nc.jetstream()
        await eventually(lambda: _idle(js))
        assert await consumer.pool.fetchval("select count(*) from effects") == 20
        assert sorted(seen) == list(range(1, 21)), "facts of a story are counted without a gap"


async def _idle(js: object) -> bool:
    info = await js.consumer_info("EVENTS", "planner-runs")  # type: ignore[attr-defined]
    return info.num_pending == 0 and info.num_ack_pending == 0


async def test_poison_is_buried_with_its_reason_and_stops_nobody(start: Start) -> None:
    handled: list[str] = []
    broken = {"on": True}

    async def build(chassis: Chassis) -> None:
        async def on_completed(message: run_facts.RunCompleted, envelope: Envelope) -> None:
            async with chassis.uow.handling(envelope, "planner-runs"):
                if message.title == "poison" and broken["on"]:
                    raise Rejection(Code.INVALID, "this run makes no sense")
                handled.append(message.title)

        chassis.bus.on(streams.PLANNER_RUNS, {run_facts.RunCompleted: on_completed})

    async with start("planner", build) as consumer, start("executor", nothing) as emitter:
        async with emitter.uow.begin() as tx:
            tx.publish(fact().model_copy(update={"title": "poison"}), fact().model_copy(update={"title": "good"}))
        js = emitter.bus.nc.jetstream()
        bad_subject = run_facts.RunCompleted.pattern().replace("*", "default", 1).replace("*", "x")
        await js.publish(bad_subject, b"\xff{not json", headers={"Nats-Msg-Id": str(uuid4())})
        await eventually(lambda: handled == ["good"])
        letters = await eventually(lambda: _letters(consumer, 2))
        assert {letter.reason.split(":")[0][:20] for letter in letters} >= {"this run makes no se"}
        dead = await js.stream_info("DLQ")
        await eventually(lambda: _messages(emitter, "DLQ", 2), what=f"dead letters on the bus, {dead.state.messages}")
        poison = next(letter for letter in letters if "no sense" in letter.reason)
        with pytest.raises(Rejection, match="no sense"):
            await consumer.dead_letters.replay(poison.id, Context(request_id="op-1"))
        broken["on"] = False
        await consumer.dead_letters.replay(poison.id, Context(request_id="op-2"))
        assert handled == ["good", "poison"]
        assert (await consumer.dead_letters.get(poison.id)).replayed_at is not None


async def test_a_message_that_two_give_up_on_at_once_is_one_letter(start: Start) -> None:
    """It comes again while the first is still at it: nobody acknowledged it in time."""
    message = ("planner-runs", "evt.x", {"Nats-Msg-Id": str(uuid4())}, b"poison", "no sense", 1)
    async with start("planner", nothing) as consumer:
        letters = consumer.dead_letters
        async with consumer.pool.acquire() as holder, holder.transaction():
            await holder.execute("lock table dead_letters in share mode")  # both may look, neither may write
            both = [asyncio.create_task(letters.bury(*message)) for _ in range(2)]
            await eventually(lambda: _waiting(holder, 2), what="both to be at it")
        await asyncio.gather(*both)
        assert (await letters.list(50, 0)).total == 1


async def _waiting(connection: Connection, count: int) -> bool:
    """For a lock of this database, or of one of its tables."""
    mine = "database = (select oid from pg_database where datname = current_database())"
    found = await connection.fetchval(f"select count(*) from pg_locks where not granted and {mine}")
    return bool(found == count)


async def _letters(chassis: Chassis, count: int) -> list[object]:
    page = await chassis.dead_letters.list(50, 0)
    return page.items if page.total == count else []  # type: ignore[return-value]


async def _messages(chassis: Chassis, stream: str, count: int) -> bool:
    return (await chassis.bus.nc.jetstream().stream_info(stream)).state.messages == count


async def test_a_bug_is_retried_and_then_buried(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chassis.consumer.BACKOFF_BASE", 0.01)
    tries: list[int] = []

    async def build(chassis: Chassis) -> None:
        async def on_completed(message: run_facts.RunCompleted, envelope: Envelope) -> None:
            tries.append(1)
            raise ZeroDivisionError("a bug")

        chassis.bus.on(streams.PLANNER_RUNS, {run_facts.RunCompleted: on_completed})

    async with start("planner", build) as consumer, start("executor", nothing) as emitter:
        async with emitter.uow.begin() as tx:
            tx.publish(fact())
        letters = await eventually(lambda: _letters(consumer, 1))
    assert len(tries) == 5
    assert letters[0].attempts == 5  # type: ignore[attr-defined]


async def test_a_request_does_not_outwait_the_connection_it_was_sent_on(start: Start, nats_server: NatsServer) -> None:
    """Its answer could not come back: the right to answer ended with the connection on which the question came."""
    asked = asyncio.Event()

    async def build(chassis: Chassis) -> None:
        async def create(request: planner.CreateTask, context: Context) -> planner.TaskCreated:
            asked.set()
            await asyncio.Event().wait()
            raise AssertionError

        chassis.bus.serve(planner.CreateTask, create)

    async with start("planner", build), start("gateway", nothing) as caller:
        order = planner.CreateTask(command_id=uuid4(), title="t")
        asking = asyncio.create_task(caller.bus.ask(order, Context()))
        await asked.wait()
        await asyncio.to_thread(nats_server.kill)
        with pytest.raises(RetryLater, match="connection"):
            await asyncio.wait_for(asking, 60)
        nats_server.start()
        await eventually(lambda: caller.bus.connected)


async def test_an_owner_whose_database_is_away_is_unavailable_and_not_broken(start: Start) -> None:
    async def build(chassis: Chassis) -> None:
        async def get(request: executor.GetRun, context: Context) -> executor.RunDetail:
            raise ConnectionRefusedError(111, "Connection refused")

        chassis.bus.serve(executor.GetRun, get)

    async with start("executor", build), start("gateway", nothing) as caller:
        with pytest.raises(RetryLater, match="database"):
            await caller.bus.ask(executor.GetRun(run_id=uuid4()), Context())


async def test_an_answer_that_cannot_be_stored_is_a_refusal_and_not_a_silence(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def build(chassis: Chassis) -> None:
        async def list_(request: executor.ListRuns, context: Context) -> Page[executor.Run]:
            return Page(items=[a_run("x" * 600_000)], total=1)

        chassis.bus.serve(executor.ListRuns, list_)

    async with start("planner", nothing) as caller:
        monkeypatch.setenv("S3_ENDPOINT_URL", "http://127.0.0.1:9")
        async with start("executor", build):
            with pytest.raises(RetryLater, match="object store"):
                await caller.bus.ask(executor.ListRuns(), Context(), patience=60)


async def test_an_answer_that_is_no_json_is_a_bug_and_not_a_silence(start: Start) -> None:
    async def build(chassis: Chassis) -> None:
        async def list_(request: executor.ListRuns, context: Context) -> Page[executor.Run]:
            raise Rejection(Code.INVALID, "a lone surrogate \ud800")

        chassis.bus.serve(executor.ListRuns, list_)

    async with start("executor", build), start("planner", nothing) as caller:
        with pytest.raises(Rejection) as refused:
            await caller.bus.ask(executor.ListRuns(), Context())
        assert refused.value.failure.code is Code.INTERNAL


async def test_a_watcher_who_falls_behind_hears_what_came_before_the_gap_and_then_that_there_is_one(
    start: Start,
) -> None:
    async with start("gateway", nothing) as chassis, chassis.bus.watch("live.>", limit=3) as heard:
        subscription = max(chassis.bus.nc._subs.values(), key=lambda s: s._id)
        put = subscription._cb
        for n in range(5):
            await put(_live(n))
        got = [await anext(heard)]
        await put(_live(9))  # there is room again, but the gap stays a gap
        got += [await anext(heard), await anext(heard)]
        assert [body for _, body in got] == [b"0", b"1", b"2"]
        with pytest.raises(SlowWatcher):
            await anext(heard)


def _live(n: int) -> object:
    return SimpleNamespace(subject="live.x", data=str(n).encode())


async def test_a_watcher_who_leaves_while_the_broker_is_away_leaves_nothing_behind(
    start: Start, nats_server: NatsServer
) -> None:
    async with start("gateway", nothing) as chassis:
        async with chassis.bus.watch("live.>"):
            assert "live.>" in {sub.subject for sub in chassis.bus.nc._subs.values()}
            nats_server.kill()
            await eventually(lambda: not chassis.bus.connected)
        assert "live.>" not in {sub.subject for sub in chassis.bus.nc._subs.values()}
        nats_server.start()
        await eventually(lambda: chassis.bus.connected)


async def test_a_bus_that_stops_while_it_reconnects_leaves_nothing_behind(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before Python 3.12 wait_for loses a cancellation that comes together with what it waits for."""
    canceled: list[None] = []

    async def select_next_server() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            canceled.append(None)
            raise OSError if len(canceled) == 1 else asyncio.CancelledError from None

    bus = Bus("planner", nats_server.url("planner"), None)  # type: ignore[arg-type]
    await bus.connect()
    monkeypatch.setattr(bus.nc, "_select_next_server", select_next_server)
    nats_server.kill()
    await eventually(lambda: bus.nc.is_reconnecting)
    reconnecting = bus.nc._reconnection_task
    await bus.stop()
    assert reconnecting is not None
    assert (reconnecting.done(), len(canceled)) == (True, 2)


async def test_ringing_before_there_is_a_connection_is_silent() -> None:
    bus = Bus("planner", "nats://127.0.0.1:9", None)  # type: ignore[arg-type]
    await bus.ring("due")
    assert not bus.connected


async def test_saying_many_facts_again_does_not_freeze_their_owner(start: Start) -> None:
    again = OWNER_REQUESTS["executor"]["resend"]
    many = """
        with batch as (
            insert into outbox_batches (stream, size, published_at, first_sequence, last_sequence)
            values ('EVENTS', 20000, now(), 1, 20000) returning id
        )
        insert into outbox (batch, message_id, subject, story, sequence, head, body)
        select id, gen_random_uuid(), 'evt.default.executor.run.completed.s', 's', n, '', '{}'
        from batch, generate_series(1, 20000) as n
    """
    async with start("executor", nothing) as owner, start("gateway", nothing) as caller:
        await owner.pool.execute("insert into stories values ('s', 30000)")
        await owner.pool.execute(many)
        told = await caller.bus.ask(again(story="s", first=1, last=10**9), Context())
        assert told.sent == list(range(1, 20_001))
        assert told.gone == list(range(20_001, 30_001))


async def test_a_service_that_starts_while_the_broker_restarts_is_up_when_the_broker_is(
    start: Start, nats_server: NatsServer
) -> None:
    """It dies neither of the connection that broke while it was being assembled, nor of waiting for it."""

    async def build(chassis: Chassis) -> None:
        async def get(request: executor.GetRun, context: Context) -> executor.RunDetail:
            raise Rejection(Code.NOT_FOUND, "asked and answered")

        chassis.bus.serve(executor.GetRun, get)
        nats_server.freeze()  # it hears what is said now, and will never have heard it
        asyncio.get_running_loop().call_later(0.5, nats_server.restart)

    async with start("gateway", nothing) as caller, start("executor", build):
        await eventually(lambda: caller.bus.connected)
        with pytest.raises(Rejection, match="asked and answered"):
            await caller.bus.ask(executor.GetRun(run_id=uuid4()), Context())


async def test_a_service_that_says_it_is_up_can_be_asked_however_slow_its_way_to_the_broker_is(
    start: Start, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with proxied(nats_server.url("executor")) as slow:

        async def build(chassis: Chassis) -> None:
            async def get(request: executor.GetRun, context: Context) -> executor.RunDetail:
                raise Rejection(Code.NOT_FOUND, "asked and answered")

            chassis.bus.serve(executor.GetRun, get)
            slow.freeze()  # the subscriptions are on their way, for a while
            asyncio.get_running_loop().call_later(0.5, slow.thaw)

        async with start("gateway", nothing) as caller:
            monkeypatch.setattr(nats_server, "url", lambda _: slow.url)
            async with start("executor", build):
                with pytest.raises(Rejection, match="asked and answered"):
                    await caller.bus.ask(executor.GetRun(run_id=uuid4()), Context())
