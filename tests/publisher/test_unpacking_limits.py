"""The process that unpacks: what it may use, and how its parent ends it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
import pytest

from chassis.confined import WorkerDied
from chassis.confined_worker import Limit
from chassis.testing.eventually import eventually
from contracts import previews
from contracts.errors import Rejection, RetryLater
from services.publisher.adapters import unpacker
from services.publisher.adapters.unpacker import COMMAND, Unpacker
from services.publisher.unpacking import directory
from tests.publisher.test_unpacking import Place, place
from tests.publisher.zips import with_index

__all__ = ["place"]  # the fixture


@pytest.fixture
def endless(place: Place) -> Place:
    """An archive that never comes: the worker waits for its first byte."""
    os.mkfifo(place.archive)
    return place


@contextmanager
def at_work(place: Place) -> Iterator[psutil.Process]:
    command = [*COMMAND, str(place.archive), str(place.into)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={}) as process:
        try:
            yield psutil.Process(process.pid)
        finally:
            process.kill()


async def test_the_worker_is_bounded_before_it_looks_at_an_archive(endless: Place) -> None:
    bounds = {
        psutil.RLIMIT_AS: (512 << 20, 512 << 20),
        psutil.RLIMIT_CPU: (30, 31),
        psutil.RLIMIT_FSIZE: (25 << 20, 25 << 20),
        psutil.RLIMIT_NOFILE: (16, 16),
        psutil.RLIMIT_NPROC: (0, 0),
        psutil.RLIMIT_CORE: (0, 0),
    }
    with at_work(endless) as worker:
        await eventually(lambda: {what: worker.rlimit(what) for what in bounds} == bounds, what="its limits")
        passed = {name for name in worker.environ() if not name.startswith("SUBPROCESS_")}  # traces, where Sentry is on
        assert passed == set()


def test_the_worker_takes_what_the_gateway_lets_in() -> None:
    assert directory.LARGEST_ARCHIVE == previews.LARGEST_ARCHIVE


async def test_a_worker_that_does_not_even_end_itself_is_ended_and_says_nothing_about_the_archive(
    endless: Place,
) -> None:
    with pytest.raises(WorkerDied, match="has not ended"):
        await Unpacker(timeout=0.3).unpack(endless.archive, endless.into, None)
    assert workers() == []


def workers() -> list[psutil.Process]:
    alive = (child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE)
    return [child for child in alive if "unpacking" in " ".join(child.cmdline())]


async def test_a_worker_whose_parent_gives_up_ends_at_once(endless: Place) -> None:
    waiting = asyncio.create_task(Unpacker().unpack(endless.archive, endless.into, None))
    await eventually(workers)
    waiting.cancel()
    with suppress(asyncio.CancelledError):
        await waiting
    assert workers() == []


async def test_a_worker_that_is_killed_says_nothing_about_the_archive(endless: Place) -> None:
    waiting = asyncio.create_task(Unpacker().unpack(endless.archive, endless.into, None))
    await eventually(workers)
    workers()[0].kill()
    with pytest.raises(WorkerDied, match="status -9"):
        await waiting


@pytest.mark.parametrize(("number", "is_it"), [(signal.SIGXCPU, Rejection), (signal.SIGALRM, Rejection)])
async def test_a_worker_that_reaches_a_limit_refuses_the_archive(
    number: signal.Signals, is_it: type[Exception], endless: Place
) -> None:
    waiting = asyncio.create_task(Unpacker().unpack(endless.archive, endless.into, None))
    await eventually(workers)
    workers()[0].send_signal(number)
    with pytest.raises(is_it, match="takes too long"):
        await waiting


@pytest.mark.parametrize(
    ("limit", "says"), [(Limit.MEMORY, "more memory than it may; pack"), (Limit.SIZE, "make it smaller, or link it")]
)
async def test_what_the_worker_had_too_little_of_is_told_with_the_way_out(
    limit: Limit, says: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpacker, "COMMAND", (sys.executable, "-c", f'print(\'{{"over": "{limit}"}}\')'))
    with pytest.raises(Rejection, match=says):
        await place.unpack(with_index())


async def test_a_full_disk_is_a_matter_of_time(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    said = b'{"no_room": "No space left on device"}'
    monkeypatch.setattr(unpacker, "COMMAND", (sys.executable, "-c", f"print({said.decode()!r})"))
    with pytest.raises(RetryLater, match="No space left"):
        await place.unpack(with_index())
