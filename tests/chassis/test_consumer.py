"""The consumer's loop when messages are hostile, parts are away, or the process must stop."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from chassis.consumer import MAX_ATTEMPTS, Consumer
from chassis.context import Context
from chassis.keeper import Keeper, consumer_config
from chassis.service import Build, Chassis
from chassis.testing.eventually import eventually
from contracts import run_facts, streams
from contracts.envelope import Envelope
from contracts.errors import Code, Rejection, RetryLater
from contracts.story import DeadLetter
from tests.chassis.conftest import Start, fact, nothing

Handler = Any


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What would have ended the process."""
    codes: list[int] = []
    monkeypatch.setattr("os._exit", codes.append)
    return codes


def handled_by(handler: Handler) -> Build:
    async def build(chassis: Chassis) -> None:
        chassis.bus.on(streams.PLANNER_RUNS, {run_facts.RunCompleted: handler})

    return build


async def tell(emitter: Chassis, *runs: UUID) -> None:
    async with emitter.uow.begin() as tx:
        tx.publish(*(fact(run) for run in runs or (uuid4(),)))


async def letters(chassis: Chassis, count: int) -> list[DeadLetter]:
    page = await chassis.dead_letters.list(50, 0)
    return page.items if page.total == count else []


async def pending(keeper: Keeper) -> int:
    js = await keeper.connect()
    info = await js.consumer_info("EVENTS", streams.PLANNER_RUNS.durable)
    return (info.num_pending or 0) + (info.num_ack_pending or 0)


async def settled(keeper: Keeper) -> bool:
    return await pending(keeper) == 0


async def test_a_reason_or_header_that_a_database_cannot_store_is_buried_all_the_same(
    start: Start, exits: list[int]
) -> None:
    async def refuse(message: run_facts.RunCompleted, envelope: Envelope) -> None:
        raise Rejection(Code.INVALID, "the title is \x00 and \ud800")

    async with start("planner", handled_by(refuse)) as consumer, start("executor", nothing) as emitter:
        await tell(emitter)
        [letter] = await eventually(lambda: letters(consumer, 1))
        assert "the title is" in letter.reason
        subject = fact().subject
        hostile = {"Nats-Msg-Id": "no-uuid", "ce-id": "\x00", "x-claim": "\x01{", "traceparent": "\x00"}
        await emitter.bus.nc.jetstream().publish(subject, b"\x00\xff", headers=hostile)
        await eventually(lambda: letters(consumer, 2))
        assert not exits


async def test_whatever_breaks_between_handler_and_ack_the_loop_goes_on(
    start: Start, exits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[UUID] = []
    burst = iter([ZeroDivisionError("a bug of our own")])
    settle = Consumer._settled

    async def settle_later(self: Consumer, message: Any) -> str:
        for error in burst:
            raise error
        return await settle(self, message)

    monkeypatch.setattr(Consumer, "_settled", settle_later)

    async def handle(message: run_facts.RunCompleted, envelope: Envelope) -> None:
        seen.append(message.run_id)

    async with start("planner", handled_by(handle)), start("executor", nothing) as emitter:
        run = uuid4()
        await tell(emitter, run)
        await eventually(lambda: seen == [run])
        assert not exits


async def test_a_message_buried_twice_is_one_letter(start: Start) -> None:
    """The ack may be lost after the burial: the message comes again."""
    async with start("planner", nothing) as chassis:
        headers = {"Nats-Msg-Id": str(uuid4()), "ce-id": str(uuid4())}
        for _ in range(2):
            await chassis.dead_letters.bury("planner-runs", fact().subject, headers, b"{}", "poison", 1)
        assert (await chassis.dead_letters.list(10, 0)).total == 1
        resent = headers | {"Nats-Msg-Id": str(uuid4())}
        await chassis.dead_letters.bury("planner-runs", fact().subject, resent, b"{}", "poison", 1)
        assert (await chassis.dead_letters.list(10, 0)).total == 1, "its owner said it again: still the same fact"


@pytest.mark.parametrize("ack", ["$JS.ACK.{}", "$JS.ACK.hub.ACCOUNT.{}.token"])
async def test_a_message_without_an_id_is_known_by_its_place(start: Start, ack: str) -> None:
    """It comes again, under another count of deliveries, when thousands like it are buried slower than acks are awaited."""
    async with start("planner", nothing) as chassis:
        for place in ("EVENTS.timeline.1.7.7.1790000000000000000.3", "EVENTS.timeline.2.7.9.1790000000000000000.1"):
            await chassis.dead_letters.bury("timeline", "evt.x", {}, b"\xff", "poison", 1, reply=ack.format(place))
        assert (await chassis.dead_letters.list(10, 0)).total == 1
        other = ack.format("EVENTS.timeline.1.8.8.1790000000000000000.0")
        await chassis.dead_letters.bury("timeline", "evt.x", {}, b"\xff", "poison", 1, reply=other)
        assert (await chassis.dead_letters.list(10, 0)).total == 2, "two messages that say the same"


async def test_a_letter_replayed_twice_at_once_has_one_effect(start: Start) -> None:
    broken = {"on": True}
    release = asyncio.Event()

    async def build(chassis: Chassis) -> None:
        await chassis.pool.execute("create table effects (run_id uuid)")

        async def handle(message: run_facts.RunCompleted, envelope: Envelope) -> None:
            async with chassis.uow.handling(envelope, "planner-runs") as tx:
                if broken["on"]:
                    raise Rejection(Code.INVALID, "poison")
                await release.wait()
                await tx.conn.execute("insert into effects values ($1)", message.run_id)

        chassis.bus.on(streams.PLANNER_RUNS, {run_facts.RunCompleted: handle})

    async with start("planner", build) as consumer, start("executor", nothing) as emitter:
        await tell(emitter)
        [letter] = await eventually(lambda: letters(consumer, 1))
        broken["on"] = False
        both = [asyncio.create_task(consumer.dead_letters.replay(letter.id, Context())) for _ in range(2)]
        release.set()
        outcomes = {replayed.outcome for replayed in await asyncio.gather(*both)}
        assert outcomes == {"handled", "repeated"}
        assert (await consumer.dead_letters.replay(letter.id, Context())).outcome == "repeated"
        assert await consumer.pool.fetchval("select count(*) from effects") == 1


async def test_a_message_that_shall_come_later_does(start: Start, keeper: Keeper) -> None:
    tries: list[int] = []

    async def busy(message: run_facts.RunCompleted, envelope: Envelope) -> None:
        tries.append(1)
        if len(tries) < 8:
            raise RetryLater(0.01, "busy")

    async with start("planner", handled_by(busy)) as consumer, start("executor", nothing) as emitter:
        await tell(emitter)
        await eventually(lambda: len(tries) == 8, what="being busy is no failed attempt")
        await eventually(lambda: settled(keeper))
        assert (await consumer.dead_letters.list(10, 0)).total == 0


async def test_a_body_of_another_story_than_its_subject_is_refused(start: Start) -> None:
    """Rights are given by subject: the body must not speak for another company or run."""
    seen: list[UUID] = []

    async def handle(message: run_facts.RunCompleted, envelope: Envelope) -> None:
        seen.append(message.run_id)

    async with start("planner", handled_by(handle)) as consumer, start("executor", nothing) as emitter:
        told, envelope = fact(), Envelope.of(fact(), id=uuid4(), source="executor")
        body = told.model_copy(update={"run_id": uuid4()}).model_dump_json().encode()
        await emitter.bus.nc.jetstream().publish(told.subject, body, headers=envelope.headers())
        [letter] = await eventually(lambda: letters(consumer, 1))
        assert "the body speaks of" in letter.reason
        assert seen == []


async def test_a_durable_deleted_under_its_consumer_is_used_again_when_it_is_back(start: Start, keeper: Keeper) -> None:
    seen: list[UUID] = []

    async def handle(message: run_facts.RunCompleted, envelope: Envelope) -> None:
        seen.append(message.run_id)

    first, second = uuid4(), uuid4()
    async with start("planner", handled_by(handle)), start("executor", nothing) as emitter:
        await tell(emitter, first)
        await eventually(lambda: seen == [first])
        js = await keeper.connect()
        await js.delete_consumer("EVENTS", streams.PLANNER_RUNS.durable)
        await tell(emitter, second)
        await keeper.apply()
        await eventually(lambda: second in seen)


async def test_messages_in_hand_when_the_process_must_stop_come_again_at_once(start: Start, keeper: Keeper) -> None:
    held, seen = asyncio.Event(), asyncio.Event()

    async def hang(message: run_facts.RunCompleted, envelope: Envelope) -> None:
        held.set()
        await asyncio.Event().wait()

    async def handle(message: run_facts.RunCompleted, envelope: Envelope) -> None:
        seen.set()

    js = await keeper.connect()
    patient = consumer_config(streams.PLANNER_RUNS.model_copy(update={"ack_wait": 3600}))
    await js.add_consumer("EVENTS", patient)  # an upsert: what is not given back does not come again
    async with start("executor", nothing) as emitter:
        async with start("planner", handled_by(hang)):
            await tell(emitter)
            await held.wait()
            began = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - began < 25, "nats-py would drain for 30 s"
        async with start("planner", handled_by(handle)):
            await asyncio.wait_for(seen.wait(), 60)
    await eventually(lambda: settled(keeper))


async def test_more_messages_than_slots_are_all_handled_and_never_more_than_the_slots_at_once(
    start: Start, keeper: Keeper
) -> None:
    running, most, seen = 0, 0, 0

    async def handle(message: run_facts.RunCompleted, envelope: Envelope) -> None:
        nonlocal running, most, seen
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        running -= 1
        seen += 1

    async with start("planner", handled_by(handle)), start("executor", nothing) as emitter:
        await tell(emitter, *(uuid4() for _ in range(200)))
        await eventually(lambda: seen == 200)
        await eventually(lambda: settled(keeper))
    assert 1 < most <= 16


async def test_a_failed_message_without_a_usable_msg_id_is_still_counted(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.consumer.BACKOFF_BASE", 0.01)

    async def broken(message: run_facts.RunCompleted, envelope: Envelope) -> None:
        raise ZeroDivisionError

    async with start("planner", handled_by(broken)) as consumer, start("executor", nothing) as emitter:
        told = fact()
        headers = Envelope.of(told, id=uuid4(), source="executor").headers() | {"Nats-Msg-Id": f"{uuid4()}-again"}
        await emitter.bus.nc.jetstream().publish(told.subject, told.model_dump_json().encode(), headers=headers)
        [letter] = await eventually(lambda: letters(consumer, 1))
        assert letter.attempts == 5


async def test_a_database_that_is_away_is_no_failed_attempt(start: Start, keeper: Keeper) -> None:
    tries: list[int] = []

    async def handle(message: run_facts.RunCompleted, envelope: Envelope) -> None:
        tries.append(1)
        if len(tries) <= MAX_ATTEMPTS:
            raise ConnectionResetError("the database went away")

    async with start("planner", handled_by(handle)) as consumer, start("executor", nothing) as emitter:
        await tell(emitter)
        await eventually(lambda: len(tries) > MAX_ATTEMPTS)
        await eventually(lambda: settled(keeper))
        assert (await consumer.dead_letters.list(10, 0)).total == 0
