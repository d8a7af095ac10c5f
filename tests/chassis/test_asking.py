"""Whoever asks hears soon that no answer can come, and waits for one that only takes long."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import Any, cast
from uuid import uuid4

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from chassis import asking
from chassis.asking import Pending
from chassis.context import Context
from chassis.testing.eventually import eventually
from chassis.testing.servers import NatsServer
from contracts import planner
from contracts.catalog import OWNER_REQUESTS
from contracts.envelope import Reply
from contracts.errors import RetryLater
from contracts.message import Request
from contracts.page import Page
from contracts.plan import PlanGraph
from contracts.story import Pong
from tests.chassis.conftest import Start, nothing

PING = OWNER_REQUESTS["planner"]["ping"].subject()
ORDER = planner.DraftPlan(command_id=uuid4(), task_id=uuid4())


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "LOOK_EVERY", 0.1)


async def owner(
    server: NatsServer,
    taken: Callable[[Msg], Awaitable[None]],
    pinged: Callable[[Msg], Awaitable[None]],
    request: type[Request[Any]] = planner.DraftPlan,
) -> Client:
    """A planner as the bus sees it: its connection goes when we close it, as that of a process that was killed."""
    client = await nats.connect(server.url("planner"), inbox_prefix=b"_INBOX_planner")
    await client.subscribe(request.subject(), "planner", cb=taken)
    await client.subscribe(PING, "planner", cb=pinged)
    await client.flush()
    return client


async def test_an_owner_of_an_older_release_is_not_sent_fields_it_does_not_know(
    start: Start, nats_server: NatsServer
) -> None:
    sent: list[bytes] = []

    async def take(message: Msg) -> None:
        sent.append(message.data)
        await message.respond(Reply(answer={}).model_dump_json().encode())

    client = await owner(nats_server, take, take, planner.CreatePlan)
    async with start("gateway", nothing) as asker:
        plan = {"plan": [{"id": "a", "title": "A"}]}
        order = planner.CreatePlan(command_id=uuid4(), task_id=uuid4(), graph=PlanGraph.model_validate(plan))
        with contextlib.suppress(ValueError, RetryLater):  # what it answers does not matter
            await asker.bus.ask(order, Context())
    await client.close()
    assert json.loads(sent[0])["graph"] == plan


async def test_when_the_owner_dies_with_a_request_in_flight_its_caller_hears_of_it_at_once(
    start: Start, nats_server: NatsServer
) -> None:
    taken = asyncio.Event()

    async def take(_: Msg) -> None:
        taken.set()

    async def ping(_: Msg) -> None:
        """It is busy and does not answer."""

    dying = await owner(nats_server, take, ping)
    async with start("executor", nothing) as caller:
        call = asyncio.create_task(caller.bus.ask(ORDER, Context()))
        await taken.wait()
        await dying.close()
        with pytest.raises(RetryLater, match="the service planner went away before it answered") as gone:
            async with asyncio.timeout(60):
                await call
    assert gone.value.failure.retry_after


async def test_an_owner_that_was_restarted_meanwhile_knows_nothing_of_the_request(
    start: Start, nats_server: NatsServer
) -> None:
    async def take(_: Msg) -> None:
        """Its answer died with the process that took it."""

    async def ping(message: Msg) -> None:
        pong = Pong(service="planner", version="0", ready=True, uptime_s=0.01)
        await message.respond(Reply(answer=pong.model_dump()).model_dump_json().encode())

    restarted = await owner(nats_server, take, ping)
    async with start("executor", nothing) as caller:
        with pytest.raises(RetryLater, match="went away before it answered"):
            async with asyncio.timeout(60):
                await caller.bus.ask(ORDER, Context())
    await restarted.close()


async def test_an_owner_that_takes_long_is_waited_for_as_long_as_one_of_it_is_there(
    start: Start, nats_server: NatsServer
) -> None:
    asked: list[Msg] = []
    pings = 0

    async def take(message: Msg) -> None:
        asked.append(message)

    async def ping(message: Msg) -> None:
        """One of two is a newcomer; after several looks the answer is given."""
        nonlocal pings
        pings += 1
        pong = Pong(service="planner", version="0", ready=True, uptime_s=0.01 if pings % 2 else 100.0)
        await message.respond(Reply(answer=pong.model_dump()).model_dump_json().encode())
        if pings == 5:
            drafted = planner.PlanDrafted(plan_id=None, status=None, pending=True)
            await asked[0].respond(Reply(answer=drafted.model_dump(mode="json")).model_dump_json().encode())

    slow, twin = await owner(nats_server, take, ping), await owner(nats_server, take, ping)
    async with start("executor", nothing) as caller:
        assert (await caller.bus.ask(ORDER, Context())).pending
        await eventually(lambda: not [task for task in asyncio.all_tasks() if "Pending._look" in repr(task)])
    assert len(asked) == 1
    await slow.close()
    await twin.close()


async def test_a_question_that_a_frozen_process_took_is_answered_by_another(
    start: Start, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "ASK_AGAIN_AFTER", (0.1, 60.0))
    asked: list[str] = []

    async def take(message: Msg) -> None:
        """The first to take it never answers, whoever that is."""
        asked.append(message.subject)
        if len(asked) > 1:
            page: Page[planner.Task] = Page(items=[], total=7)
            await message.respond(Reply(answer=page.model_dump()).model_dump_json().encode())

    async def ping(_: Msg) -> None:
        """Frozen."""

    servers = [await owner(nats_server, take, ping, planner.ListTasks) for _ in range(2)]
    async with start("executor", nothing) as caller:
        found = await caller.bus.ask(planner.ListTasks(), Context())
    assert (found.total, len(asked)) == (7, 2)
    for server in servers:
        await server.close()


async def test_an_order_is_sent_once_however_long_it_takes(
    start: Start, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second process would answer that it is in flight."""
    monkeypatch.setattr(asking, "ASK_AGAIN_AFTER", (0.01, 0.01))
    asked: list[str] = []

    async def take(message: Msg) -> None:
        asked.append(message.subject)
        await asyncio.sleep(0.3)
        await message.respond(Reply(answer={"plan_id": None, "status": None}).model_dump_json().encode())

    async def ping(_: Msg) -> None:
        """Busy."""

    busy = await owner(nats_server, take, ping)
    async with start("executor", nothing) as caller:
        await caller.bus.ask(ORDER, Context())
    assert len(asked) == 1
    await busy.close()


class LosesCancellations:
    """A client that answers a cancellation with the pong that came together with it, as asyncio.wait_for may."""

    def __init__(self) -> None:
        self.asked = 0

    async def request(self, subject: str, body: bytes, timeout: float) -> Msg:
        self.asked += 1
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        pong = Pong(service="planner", version="0", ready=True, uptime_s=100.0)
        return Msg(_client=None, data=Reply(answer=pong.model_dump()).model_dump_json().encode())  # type: ignore[arg-type]


async def test_nobody_looks_for_an_owner_any_more_once_it_has_answered() -> None:
    client = LosesCancellations()
    async with asyncio.timeout(None) as limit:
        pending = Pending(cast(Client, client), "planner", limit)
        pending._begin()
        await eventually(lambda: client.asked == 1)
        pending.close()
        assert pending._looking is not None
        await asyncio.wait([pending._looking], timeout=10.0)
        assert pending._looking.done(), "it goes on looking"
        assert (client.asked, pending.reason) == (1, "")
