"""From what was sent to a version that is served: whole or not at all, whoever dies or is away meanwhile."""

from __future__ import annotations

import asyncio
import os
import random
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import asyncpg
import httpx
import psutil
import pytest

from chassis.confined import WorkerDied
from chassis.service import Chassis
from chassis.testing.eventually import eventually
from chassis.testing.servers import Database
from contracts.artifacts import AddArtifact
from contracts.previews import GetPreview, Preview, PreviewState, SubmitPreview
from services.publisher.adapters.unpacker import Unpacker
from services.publisher.handlers import publishing
from services.publisher.store.sites import SiteStore
from tests.gateway.proxy import Proxy
from tests.publisher.conftest import Agent, World, a_case
from tests.publisher.hostile_bytes import HOSTILE
from tests.publisher.test_unpacking_limits import workers
from tests.publisher.zips import File, make

A_FEW = ("far-up", "link-to-a-secret", "encrypted", "case", "five-hundred-files-on-one-header", "empty-file")


def a_site(version: int, *more: File) -> bytes:
    """Every file says which version it belongs to."""
    page = File("index.html", f"<!doctype html><p>version {version}".encode())
    return make(page, *(File(f"assets/{n}.js", f"/* {version} */ {n}".encode()) for n in range(30)), *more)


async def kept(world: World, task: UUID, archive: bytes) -> SubmitPreview:
    """The order to publish an archive that is stored already: it can be given while the object store is away."""
    ref = await world.put(archive, "application/zip")
    added = await world.ask(AddArtifact(command_id=uuid4(), task_id=task, name="site.zip", ref=ref))
    return SubmitPreview(command_id=uuid4(), task_id=task, artifact_id=added.id)


async def stored(chassis: Chassis, preview: Preview) -> dict[str, bytes]:
    """The files of a version, as the object store has them."""
    tree = await SiteStore(chassis.pool).tree_of("default", preview.id)
    assert tree is not None, "it is ready"
    return {path: await body(chassis, sha256) for path, (sha256, _) in tree.files.items()}


async def body(chassis: Chassis, sha256: str) -> bytes:
    return b"".join([part async for part in chassis.blobs.stream(f"default/artifacts/{sha256}")])


def is_whole(files: dict[str, bytes], version: int) -> bool:
    return len(files) == 31 and all(f"{version}".encode() in data for data in files.values())


async def test_an_archive_becomes_a_version_with_the_bytes_that_were_sent(world: World) -> None:
    async with world.start_publisher() as chassis:
        sent = await world.submit(world.task(), a_site(1))
        assert (sent.state, sent.url) == (PreviewState.RECEIVED, None)
        ready = await world.ended(sent.id)
        assert (ready.files, ready.entry, ready.latest, ready.version) == (31, "index.html", True, 1)
        files = await stored(chassis, ready)
        assert is_whole(files, 1)
        assert ready.size == sum(map(len, files.values()))


async def test_an_archive_that_is_refused_fails_with_what_is_wrong_and_the_site_stays_as_it_was(live: World) -> None:
    task = live.task()
    good = await live.ended((await live.submit(task, a_site(1))).id)
    sent = [await live.submit(task, HOSTILE[name].make()) for name in A_FEW]
    for name, preview in zip(A_FEW, sent, strict=True):
        failed = await live.ended(preview.id, PreviewState.FAILED)
        assert failed.error is not None
        assert failed.url is None
        assert re.search(HOSTILE[name].says, failed.error), name
    latest = await live.ask(GetPreview(task_id=task))
    assert (latest.id, latest.version) == (good.id, 1)
    assert (await live.ended((await live.submit(task, a_site(2))).id)).latest


async def test_the_page_that_opens_first_may_be_named(live: World) -> None:
    archive = make(File("site/home.html", b"home"), File("site/docs/a.html", b"a"))
    home = await live.ended((await live.submit(live.task(), archive, entry="home.html")).id)
    docs = await live.ended((await live.submit(live.task(), archive, entry="docs/a.html")).id)
    none = await live.ended((await live.submit(live.task(), archive)).id, PreviewState.FAILED)
    assert (home.entry, home.files, docs.entry, docs.files) == ("home.html", 2, "a.html", 1)
    assert (
        none.error == "there is no 'site/index.html'; add it, or name the page that opens first as `entry` (there are"
        " 'site/home.html', 'site/docs/a.html')"
    )


async def test_of_the_files_that_an_agent_wrote_those_beside_its_page_are_published(world: World) -> None:
    async with world.start_publisher() as chassis:
        case = a_case()
        agent = Agent(world, case)
        for path in ("site/index.html", "site/app/app.js", "notes.md"):
            await agent.write(path, f"this is {path}")
        await agent.publish("site/index.html")
        await world.complete(case)
        assert case.task_id is not None
        [sent] = await eventually(lambda: world.previews(case.task_id))  # type: ignore[arg-type]
        files = await stored(chassis, await world.ended(sent.id))
        assert files == {"index.html": b"this is site/index.html", "app/app.js": b"this is site/app/app.js"}


async def test_what_is_stored_already_is_not_stored_again(live: World, monkeypatch: pytest.MonkeyPatch) -> None:
    task, put = live.task(), list[Path]()
    await live.ended((await live.submit(task, a_site(1))).id)
    original = publishing.Publishing._put_each

    async def counted(self: publishing.Publishing, company: str, directory: Path, left: object) -> None:
        left = list(left)  # type: ignore[call-overload]
        put.extend(left)
        await original(self, company, directory, iter(left))

    monkeypatch.setattr(publishing.Publishing, "_put_each", counted)
    again = await live.ended((await live.submit(task, a_site(1, File("new.js", b"new")))).id)
    assert (again.version, again.files, len(put)) == (2, 32, 1)


async def test_a_publication_that_has_ended_is_not_made_again_whatever_brings_its_job_back(world: World) -> None:
    async with world.start_publisher() as chassis:
        ready = await world.ended((await world.submit(world.task(), a_site(1))).id)
        async with chassis.uow.begin() as tx:
            order = {"preview_id": str(ready.id)}
            job = await chassis.jobs.enqueue(tx, publishing.KIND, str(ready.id), order, company="default")
        state = await chassis.jobs.wait(job, 60)
        assert (state.state, state.result) == ("done", {"lapsed": True})
        assert await world.ask(GetPreview(preview_id=ready.id)) == ready


async def test_a_worker_that_is_killed_is_replaced_and_the_archive_published(
    live: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpack, died = Unpacker.unpack, []

    async def killed_once(self: Unpacker, archive: Path, into: Path, entry: str | None) -> object:
        if not died:
            died.append(archive)
            os.mkfifo(into / "endless")
            killing = asyncio.create_task(eventually(kill_workers))
            with pytest.raises(WorkerDied):
                await unpack(self, into / "endless", into, entry)
            await killing
            raise WorkerDied("status -9")
        return await unpack(self, archive, into, entry)

    monkeypatch.setattr(Unpacker, "unpack", killed_once)
    await live.ended((await live.submit(live.task(), a_site(1))).id)
    assert died


def kill_workers() -> bool:
    found = workers()
    for worker in found:
        worker.kill()
    return bool(found)


async def test_what_nobody_foresaw_is_tried_again_and_then_told(live: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def dies(*_: object) -> object:
        raise WorkerDied("out of memory")

    monkeypatch.setattr(publishing, "ATTEMPTS", 2)
    monkeypatch.setattr(Unpacker, "unpack", dies)
    failed = await live.ended((await live.submit(live.task(), a_site(1))).id, PreviewState.FAILED)
    assert failed.error == "it could not be published (WorkerDied); publish it again"


async def test_what_kills_its_publisher_each_time_ends_with_a_reason(world: World) -> None:
    """Of publishers that died nobody says so: only the attempts that were begun tell."""
    async with gated(world) as gate:
        async with world.start_publisher(s3_endpoint_url=gate.url) as chassis:
            order = await kept(world, world.task(), a_site(1))
            gate.freeze()
            sent = await world.ask(order)
            begun = "select attempt from jobs where ref = $1 and state = 'running'"
            await eventually(lambda: chassis.pool.fetchval(begun, str(sent.id)))
        await world.rows("update jobs set attempt = 9 where ref = $1", str(sent.id))
        async with world.start_publisher():
            failed = await world.ended(sent.id, PreviewState.FAILED)
    assert failed.error == "publisher died or stalled in most of 9 attempts; publish it again"


async def test_an_object_store_that_does_not_come_back_ends_the_wait_with_a_reason(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "MOST_WAITS", 2)
    async with gated(world) as gate, world.start_publisher(s3_endpoint_url=gate.url) as chassis:
        order = await kept(world, world.task(), a_site(1))
        gate.take_away()
        lost = await world.ask(order)

        async def over() -> Preview | None:
            found = await world.ask(GetPreview(preview_id=lost.id))
            return found if found.state is PreviewState.FAILED else None

        failed = await eventually(over, timeout=60, what="the end of the wait")
        assert (failed.error or "").endswith("has not for a day; publish it again when it is back")
        row = await chassis.pool.fetchrow("select attempt, waits from jobs where ref = $1", str(lost.id))
        assert tuple(row) == (1, 2), "to wait is no attempt"


class Gate(Proxy):
    """A way to the object store that closes by itself before so many objects were put."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.puts = 1_000_000

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        gated = _Gated(self, reader)
        await super()._carry(gated, writer)  # type: ignore[arg-type]


class _Gated:
    def __init__(self, gate: Gate, reader: asyncio.StreamReader) -> None:
        self._gate = gate
        self._reader = reader

    async def read(self, most: int) -> bytes:
        data = await self._reader.read(most)
        if data.startswith(b"PUT "):
            self._gate.puts -= 1
            if self._gate.puts < 0:
                self._gate.freeze()
        return data


@asynccontextmanager
async def gated(world: World) -> AsyncIterator[Gate]:
    gate = Gate(world.urls["S3_ENDPOINT_URL"])
    gate._server = await asyncio.start_server(gate._accept, "127.0.0.1", 0)
    yield gate
    gate.take_away()
    gate._server.close()


async def test_an_object_store_that_is_away_is_waited_for_and_nothing_is_lost(world: World) -> None:
    async with gated(world) as gate, world.start_publisher(s3_endpoint_url=gate.url) as chassis:
        task = world.task()
        await world.ended((await world.submit(task, a_site(1))).id)
        orders = [await kept(world, task, a_site(version)) for version in (2, 3)]
        gate.take_away()
        sent = [await world.ask(order) for order in orders]
        told = "select count(*) from jobs where kind = 'publish' and error like '%does not answer%'"
        await eventually(lambda: chassis.pool.fetchval(f"{told} having count(*) = 2"), what="both wait")
        waiting = [await world.ask(GetPreview(preview_id=preview.id)) for preview in sent]
        assert [preview.state for preview in waiting] == [PreviewState.PUBLISHING] * 2
        assert (await world.ask(GetPreview(task_id=task))).version == 1
        gate.cut = False
        for preview in sent:
            assert is_whole(await stored(chassis, await world.ended(preview.id)), preview.version)
        assert (await world.ask(GetPreview(task_id=task))).version == 3


async def test_a_publication_under_way_when_its_service_stops_is_left_to_the_next_one(world: World) -> None:
    async with gated(world) as gate:
        async with world.start_publisher(s3_endpoint_url=gate.url) as chassis:
            order = await kept(world, world.task(), a_site(1))
            gate.freeze()
            sent = await world.ask(order)
            begun = "select count(*) from jobs where kind = 'publish' and state = 'running'"
            await eventually(lambda: chassis.pool.fetchval(begun))
        async with world.start_publisher() as chassis:
            assert is_whole(await stored(chassis, await world.ended(sent.id)), 1)
            attempts = "select attempt from jobs where kind = 'publish'"
            assert await chassis.pool.fetchval(attempts) == 1, "what was handed back does not count"


@asynccontextmanager
async def killed_after(world: World, log: Path, **environment: str) -> AsyncIterator[psutil.Process]:
    """A publisher in a process of its own, which the end of the block kills -9."""
    own = {"PREVIEW_PORT": "0", "PUBLISHER_LEASE": "1", "TMPDIR": str(log.parent), "ENV": "test"}
    env = {**os.environ, **world.urls, **own, **environment}
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.publisher", env=env, stdout=file, stderr=file
        )
    try:
        yield psutil.Process(process.pid)
    finally:
        process.kill()
        await process.wait()


async def while_it_is_fetched(_: psutil.Process, __: Gate, database: asyncpg.Connection) -> None:
    publishing = "select count(*) from publisher.previews where state = 'publishing'"
    await eventually(lambda: database.fetchval(publishing))


async def while_it_is_unpacked(process: psutil.Process, gate: Gate, _: asyncpg.Connection) -> None:
    """Or, if nobody looked in time, at the first of its files: it gets no further."""
    gate.puts = 0
    gate.thaw()
    await eventually(lambda: process.children() or gate.puts < 0, interval=0.005)


async def while_its_files_are_stored(_: psutil.Process, gate: Gate, __: asyncpg.Connection) -> None:
    gate.puts = 7
    gate.thaw()
    await eventually(lambda: gate.puts < 0)


async def while_the_site_is_switched(_: psutil.Process, gate: Gate, database: asyncpg.Connection) -> None:
    """The lock is let go of when the process is dead."""
    await database.execute("begin; select from publisher.sites for update")
    gate.thaw()
    await eventually(lambda: database.fetchval("select count(*) from pg_locks where not granted"))


Reach = Callable[[psutil.Process, Gate, asyncpg.Connection], Awaitable[None]]
POINTS: list[Reach] = [
    while_it_is_fetched,
    while_it_is_unpacked,
    while_its_files_are_stored,
    while_the_site_is_switched,
]


@pytest.mark.parametrize("reach", POINTS, ids=lambda point: point.__name__)
async def test_a_publisher_that_is_killed_leaves_the_old_version_and_the_next_one_publishes_the_new(
    reach: Reach, world: World, database: Database, tmp_path: Path
) -> None:
    task, slow = world.task(), File("large.bin", noise())
    connection = await asyncpg.connect(str(database))
    async with gated(world) as gate, killed_after(world, tmp_path / "log", S3_ENDPOINT_URL=gate.url) as process:
        old = await eventually(lambda: world.submit(task, a_site(1)))
        await world.ended(old.id)
        order = await kept(world, task, a_site(2, slow))
        gate.freeze()
        sent = await world.ask(order)
        await reach(process, gate, connection)
        process.kill()
    await connection.execute("rollback")
    manifests = await connection.fetchval("select count(*) from publisher.manifests")
    assert (manifests, await connection.fetchval("select latest from publisher.sites")) == (1, 1)
    await connection.execute("begin; select from publisher.sites for update")  # until somebody has seen the old one
    async with world.start_publisher() as chassis:
        seen = await watched(world, task, sent, connection)
        await connection.close()
        assert seen == sorted(seen)
        assert set(seen) == {1, 2}
        files = await stored(chassis, await world.ended(sent.id))
        assert files.pop("large.bin") == noise()
        assert is_whole(files, 2)
        assert is_whole(await stored(chassis, await world.ended(old.id)), 1)


def noise() -> bytes:
    return (random.Random(2).randbytes(500) + bytes(49_500)) * 500


async def watched(world: World, task: UUID, sent: Preview, holding: asyncpg.Connection) -> list[int]:
    """Which version each of many visitors sees, until the new one is there. It may come once the first has seen the old."""
    seen, address = list[int](), urlsplit((await world.ask(GetPreview(task_id=task))).latest_url or "")
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{address.port}", headers={"Host": address.netloc}, timeout=60
    ) as client:
        while True:
            is_there = (await world.ask(GetPreview(preview_id=sent.id))).state is PreviewState.READY
            files = [await client.get(f"{address.path}{file}") for file in ("", "assets/7.js")]
            assert [file.status_code for file in files] == [200, 200]
            seen += [int(re.search(r"\d", file.text)[0]) for file in files]  # type: ignore[index]
            if holding.is_in_transaction():
                await holding.execute("rollback")
            if is_there and seen[-2:] == [2, 2]:
                return seen
