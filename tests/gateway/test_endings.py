"""How a stream ends with the run it tells: with a word, once, and never while the run goes on."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from chassis.testing.eventually import eventually
from contracts.planner import TaskCompleted
from contracts.run_facts import NodeToken, RunCanceled, RunCompleted, RunFailed, RunResumed, RunStarted
from services.gateway import curtain as curtain_module
from services.gateway.curtain import Curtain
from services.gateway.domain import course as course_module
from services.gateway.domain.cursor import Cursor
from services.gateway.store import Told
from services.gateway.stream import Mailbox
from tests.gateway.builders import NOON
from tests.gateway.conftest import Gateway, Owner, StartGateway, StartOwner
from tests.gateway.sse import watch


def started(run_id: UUID) -> RunStarted:
    return RunStarted(run_id=run_id, title="r")


def failed(run_id: UUID) -> RunFailed:
    return RunFailed(run_id=run_id, title="r", reason="because", failed_nodes=[])


def completed(run_id: UUID, task_id: UUID | None = None) -> RunCompleted:
    counts = {"nodes_completed": 1, "nodes_skipped": 0}
    return RunCompleted(run_id=run_id, task_id=task_id, title="r", cost_usd="0", tokens=0, **counts)


async def known(gateway: Gateway, run_id: UUID, count: int) -> None:
    async def told() -> bool:
        return await gateway.parts.feed.count_of_run("default", run_id) == count

    await eventually(told)


async def again(gateway: Gateway, path: str, last_event_id: str | None) -> httpx.Response:
    return await gateway.client.get(path, headers={"Last-Event-ID": last_event_id or ""})


async def test_a_stream_ends_with_its_run_live_and_in_a_resume_and_is_not_asked_for_again(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    run_id = uuid4()
    path = f"/events/stream?run_id={run_id}"
    async with start_owner("executor") as executor, start_gateway() as gateway:
        await executor.tell(started(run_id))
        await known(gateway, run_id, 1)
        async with watch(gateway.client, path) as live:
            await live.until(lambda r: len(r.messages) == 1)
            await executor.tell(RunCanceled(run_id=run_id, title="r"))
            await live.until_end()
        assert live.events() == ["message", "message", "end"]
        assert json.loads(live.frames[-1].data) == {"status": "canceled"}
        assert live.frames[-1].id is None, "the id to come back with is that of the last fact"
        for last_event_id, events in (("", live.events()), (live.messages[0].id, ["message", "end"])):
            async with watch(gateway.client, path, last_event_id or "") as resumed:
                await resumed.until_end()
            assert resumed.events() == events
        refused = await again(gateway, path, live.messages[-1].id)
        assert (refused.status_code, refused.content) == (204, b"")


async def test_a_run_that_was_reopened_is_watched_on_until_it_is_over_again(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    run_id = uuid4()
    path = f"/runs/{run_id}/stream"
    async with start_owner("executor") as executor, start_gateway() as gateway:
        await executor.tell(started(run_id), failed(run_id))
        await known(gateway, run_id, 2)
        async with watch(gateway.client, path) as first:
            await first.until_end()
        seen = first.messages[-1].id
        assert (await again(gateway, path, seen)).status_code == 204
        await executor.tell(RunResumed(run_id=run_id, title="r"))
        await known(gateway, run_id, 3)
        async with watch(gateway.client, path, seen or "") as reader:
            await reader.until(lambda r: len(r.messages) == 1)
            await executor.tell(started(run_id))
            await reader.until(lambda r: len(r.messages) == 2)
            await executor.tell(completed(run_id))
            await reader.until_end()
        assert reader.events() == ["message"] * 3 + ["end"]
        assert json.loads(reader.frames[-1].data) == {"status": "completed"}


async def test_what_the_end_of_a_run_makes_of_its_task_is_still_told(
    start_gateway: StartGateway, start_owner: StartOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curtain_module, "TASK_PATIENCE", timedelta(seconds=60))
    run_id, task_id = uuid4(), uuid4()
    async with start_owner("executor") as executor, start_owner("planner") as planner, start_gateway() as gateway:
        await executor.tell(started(run_id))
        await known(gateway, run_id, 1)
        async with watch(gateway.client, f"/events/stream?run_id={run_id}") as reader:
            await reader.until(lambda r: len(r.messages) == 1)
            await executor.tell(completed(run_id, task_id))
            await reader.until(lambda r: len(r.messages) == 2)
            await planner.tell(TaskCompleted(task_id=task_id, title="t", run_id=run_id))
            await reader.until_end()
        assert [json.loads(frame.data)["level"] for frame in reader.messages][1:] == ["RUN_COMPLETED", "TASK_COMPLETED"]
        assert reader.events()[-1] == "end"


async def test_whoever_comes_back_between_a_runs_end_and_its_tasks_hears_of_the_task(
    start_gateway: StartGateway, start_owner: StartOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(course_module, "TASK_PATIENCE", timedelta(seconds=60))
    monkeypatch.setattr(curtain_module, "TASK_PATIENCE", timedelta(seconds=60))
    run_id, task_id = uuid4(), uuid4()
    path = f"/events/stream?run_id={run_id}"
    async with start_owner("executor") as executor, start_owner("planner") as planner, start_gateway() as gateway:
        await executor.tell(completed(run_id, task_id))
        await known(gateway, run_id, 1)
        async with watch(gateway.client, path) as reader:
            await reader.until(lambda r: len(r.messages) == 1)
        async with watch(gateway.client, path, reader.messages[-1].id or "") as back:
            await planner.tell(TaskCompleted(task_id=task_id, title="t", run_id=run_id))
            await back.until_end()
        assert [json.loads(frame.data)["level"] for frame in back.messages] == ["TASK_COMPLETED"]


async def test_a_task_that_never_follows_keeps_nobody_waiting(
    start_gateway: StartGateway, start_owner: StartOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curtain_module, "TASK_PATIENCE", timedelta(seconds=0.1))
    run_id = uuid4()
    async with start_owner("executor") as executor, start_gateway() as gateway:
        await executor.tell(completed(run_id, uuid4()))
        await known(gateway, run_id, 1)
        async with watch(gateway.client, f"/events/stream?run_id={run_id}") as reader:
            await reader.until_end()
        assert reader.events() == ["message", "end"]


async def test_the_tokens_of_a_run_end_with_it_too(start_gateway: StartGateway, start_owner: StartOwner) -> None:
    run_id = uuid4()
    path = f"/runs/{run_id}/tokens"
    async with start_owner("executor") as executor, start_gateway() as gateway:
        await executor.tell(started(run_id))
        await known(gateway, run_id, 1)
        async with watch(gateway.client, path) as live:
            await _speak_until_heard(executor, gateway, live, run_id)
            await executor.tell(completed(run_id))
            await live.until_end()
        assert set(live.events()) == {"token", "end"}
        async with watch(gateway.client, path) as late:
            await late.until_end()
        assert late.events() == ["end"], "tokens are not stored"
        for reader in (live, late):
            assert (await again(gateway, path, reader.frames[-1].id)).status_code == 204
        await executor.tell(RunResumed(run_id=run_id, title="r"))
        await known(gateway, run_id, 3)
        async with watch(gateway.client, path, live.frames[-1].id or "") as reopened:
            await _speak_until_heard(executor, gateway, reopened, run_id)
        assert set(reopened.events()) == {"token"}


async def _speak_until_heard(executor: Owner, gateway: Gateway, reader: Any, run_id: UUID) -> None:
    about = {"run_id": run_id, "node_id": uuid4(), "key": "a", "attempt": 1}
    while not reader.frames:  # what is said before the subscription stands is gone
        await executor.chassis.bus.live(NodeToken(**about, index=0, text="word"))
        await gateway.client.get("/livez")


def told(level: str, task_id: UUID | None = None) -> Told:
    return Told("default", 1, uuid4(), level, uuid4(), None, task_id, "", "{}", NOON)


async def closed(mailbox: Mailbox[Any]) -> list[object]:
    return [item async for item in mailbox.delivered(heartbeat=30, life=60)]


async def test_a_run_reopened_while_the_curtain_falls_sends_its_watcher_back_for_the_rest() -> None:
    mailbox: Mailbox[str] = Mailbox(10)
    curtain = Curtain(mailbox)
    curtain.heard([told("RUN_FAILED")])
    curtain.set()
    mailbox.put("the run was reopened")
    assert await closed(mailbox) == ["the run was reopened"]
    curtain.heard([told("RUN_REOPENED")])
    assert b"event: reconnect" in curtain.last_frame("")


async def test_the_curtain_stays_up_when_the_run_goes_on_before_it_has_fallen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curtain_module, "TASK_PATIENCE", timedelta(seconds=0))
    mailbox: Mailbox[str] = Mailbox(10)
    curtain = Curtain(mailbox)
    curtain.heard([told("RUN_FAILED", uuid4())])
    curtain.set()
    curtain.heard([told("RUN_RESUMED")])
    curtain.set()
    for _ in range(3):
        await asyncio.sleep(0)  # a turn of the loop: what was due at once has been called
    assert mailbox.closed is None
    curtain.heard([told("RUN_COMPLETED", uuid4()), told("TASK_COMPLETED")])
    curtain.set()
    assert await closed(mailbox) == []
    assert curtain.last_frame("", Cursor("aaaaaaaa", 3)).startswith(b"id: aaaaaaaa.3\nevent: end\n")
