"""Publishers that die, stores that are away, two publishers at once: nothing is lost and nothing is done twice."""

from __future__ import annotations

import asyncio
import signal
import socket
from contextlib import AbstractAsyncContextManager
from uuid import uuid4

import pytest

from chassis.testing.eventually import eventually
from contracts.artifacts import AddArtifact
from contracts.errors import RetryLater
from contracts.previews import PinPreview
from services.publisher.serving import sites
from services.publisher.serving.server import Server
from services.publisher.serving.sites import Recent
from tests.killable import killable
from tests.publisher.conftest import Agent, World, a_case
from tests.publisher.test_previews import published
from tests.publisher.test_publishing import gated


def a_process(world: World, **environment: str) -> AbstractAsyncContextManager[asyncio.subprocess.Process]:
    given = {"ENV": "test", "PREVIEW_PORT": "0", "PUBLISHER_LEASE": "1"}
    return killable("publisher", world.urls | given | environment)


async def test_what_a_killed_publisher_had_begun_to_collect_is_collected_once_by_the_next(world: World) -> None:
    cases = [a_case() for _ in range(6)]
    world.others.may_answer.clear()
    async with a_process(world) as child:
        await world.complete(*cases)
        await eventually(lambda: len(world.others.asked) >= 3, what="collections under way")
        child.send_signal(signal.SIGKILL)
        await child.wait()
    world.others.may_answer.set()
    async with world.start_publisher():
        for case in cases:
            assert set(await world.collected(case)) == {"guide.md"}
        facts = await world.rows("select count(*) from outbox where subject like '%.artifact.created.%'")
        assert facts[0]["count"] == len(cases)


async def test_two_publishers_share_the_work_and_do_none_of_it_twice(world: World) -> None:
    task = uuid4()
    async with world.start_publisher(), world.start_publisher():
        cases = [a_case(task_id=task, key=f"n{number}") for number in range(8)]
        for case in cases:
            agent = Agent(world, case)
            await asyncio.gather(agent.write("index.html", f"<p>{case.spec.key}"), agent.publish())
        await world.complete(*cases)
        for case in cases:
            await world.collected(case, 3)
        previews = await world.previews(task)
        assert [p.version for p in previews] == list(range(1, 9))
        for preview in previews:
            await world.ended(preview.id)
        assert [p.latest for p in await world.previews(task)] == [False] * 7 + [True]


async def test_who_pins_at_once_pins_one(live: World) -> None:
    task = live.task()
    made = [await published(live, task, index=f"<p>{number}") for number in range(3)]
    await asyncio.gather(*(live.ask(PinPreview(command_id=uuid4(), preview_id=p.id)) for p in made))
    assert sum(p.approved for p in await live.previews(task)) == 1


async def test_what_is_being_deleted_is_not_used_and_comes_back_when_it_is_sent_again(world: World) -> None:
    async with world.start_publisher() as chassis:
        ref = await world.put(b"# Back")
        add = AddArtifact(command_id=uuid4(), task_id=world.task(), name="back.md", ref=ref)
        await chassis.pool.execute(
            "insert into objects (company_id, sha256, size, stored, doomed_at) values ('default', $1, 6, false, now())",
            ref.sha256,
        )
        with pytest.raises(RetryLater, match="being removed right now"):
            await world.ask(add)
        await chassis.pool.execute("delete from objects")
        assert (await world.ask(add)).version == 1


async def test_results_wait_for_an_object_store_that_is_away_and_what_is_known_is_still_told(world: World) -> None:
    async with gated(world) as gate, world.start_publisher(s3_endpoint_url=gate.url) as chassis:
        before, case = a_case("# Before"), a_case()  # the same bytes would be there already
        await world.complete(before)
        await world.collected(before)
        gate.take_away()
        await world.complete(case)
        told = "select exists (select from jobs where kind = 'collect' and error like '%does not answer%')"
        await eventually(lambda: chassis.pool.fetchval(told), what="the collection waits")
        assert set(await world.collected(before)) == {"guide.md"}
        with pytest.raises(RetryLater, match="object store"):
            await Agent(world, case).write("a.md", "an agent is told to wait, and asks again")
        gate.cut = False
        assert "guide.md" in await world.collected(case)


async def test_a_server_of_previews_that_ends_by_itself_ends_its_process() -> None:
    """What raises here is what `chassis.service` ends the process for."""

    async def application(scope: object, receive: object, send: object) -> None: ...

    server, stop = Server(application, socket.create_server(("127.0.0.1", 0))), asyncio.Event()
    serving = asyncio.create_task(server.run(stop))
    await eventually(lambda: server._server.started, what="the server")
    server._server.should_exit = True
    with pytest.raises(RuntimeError, match="nobody told it to"):
        async with asyncio.timeout(60):
            await serving


async def test_nobody_waits_for_a_database_that_is_known_to_be_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sites, "PATIENCE", 600.0)
    recent: Recent[str, str] = Recent(10, 0.0)
    answers = asyncio.Event()

    async def found() -> str:
        return "known"

    async def refused() -> str:
        raise ConnectionError

    async def frozen() -> str:
        await answers.wait()
        return "news"

    assert [await recent.get("site", look) for look in (found, refused)] == ["known"] * 2
    async with asyncio.timeout(30):
        assert [await recent.get("site", frozen) for _ in range(2)] == ["known"] * 2
        answers.set()
        assert await recent.get("site", frozen) == "news"
