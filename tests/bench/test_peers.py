"""Drivers of peers: spoken to, failing, asleep between their turns, and installed from locks only."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from bench import cpu
from bench.contestant import LeftOut
from bench.peers import environments, redis
from bench.peers.finders import FINDERS
from bench.peers.peer import PEERS, Peer
from bench.peers.process import Driver, DriverFailed, awake, driver, wake
from chassis.testing.eventually import eventually

BURN = "import time; began = time.process_time()\nwhile time.process_time() - began < 0.2: pass"


@pytest.fixture
async def echo(tmp_path: Path) -> AsyncIterator[Driver]:
    async with driver(Path(sys.executable), "tests.bench.echo_driver", tmp_path / "log", {}) as driving:
        yield driving


async def test_a_driver_tells_its_versions_and_answers_orders_whatever_its_libraries_print(echo: Driver) -> None:
    assert echo.versions == {"pytest": pytest.__version__}
    assert (await echo.ask("full", runs=3, wait=2.0, settle=0))["seconds"] == 6.0
    latencies = (await echo.ask("idle", runs=2, wait=0.01))["latencies"]
    assert [latency >= 0.01 for latency in latencies] == [True, True]


async def test_a_driver_that_fails_says_why_and_takes_the_next_order(echo: Driver) -> None:
    with pytest.raises(DriverFailed, match="ConnectionError: lost after 7 steps"):
        await echo.ask("chain", steps=7, wait=0)
    assert (await echo.ask("full", runs=1, wait=1.0, settle=0))["seconds"] == 1.0


async def test_a_driver_that_does_not_start_leaves_its_peer_out_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(LeftOut, match=r"No module named tests\.bench\.absent"):
        async with driver(Path(sys.executable), "tests.bench.absent", tmp_path / "log", {}):
            pytest.fail("it started")


async def test_a_peer_sleeps_while_it_is_not_asked(echo: Driver) -> None:
    peer = Peer("Echo", "", echo, counted=[echo.pid], sleepers=[echo.pid], versions="")
    process = psutil.Process(echo.pid)
    assert len(await peer.idle(1, 0.0)) == 1
    await eventually(lambda: process.status() == psutil.STATUS_STOPPED)
    with awake([echo.pid]):
        await eventually(lambda: process.status() != psutil.STATUS_STOPPED)
    wake([echo.pid])


async def test_the_cpu_of_a_tree_counts_the_children_it_has_buried() -> None:
    """A shell that lives on after its busy child has ended."""
    command = f"'{sys.executable}' -c '{BURN}'; echo over; read rest"
    shell = await asyncio.create_subprocess_exec(
        "sh", "-c", command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert shell.stdout is not None
    assert shell.stdin is not None
    assert await shell.stdout.readline() == b"over\n"
    assert cpu.seconds([shell.pid]) >= 0.19
    shell.stdin.close()
    await shell.wait()
    assert cpu.seconds([shell.pid]) == 0.0


@pytest.mark.parametrize("peer", [*PEERS, *FINDERS])
def test_locks_hold_hashes_and_name_no_host(peer: str) -> None:
    lock = environments.lock_of(peer).read_text()
    requirements = re.findall(r"^[\w.-]+(?:\[.*\])?==\S+.*\n(.*)", lock, re.MULTILINE)
    assert requirements
    assert all("--hash=sha256:" in line for line in requirements)
    assert "://" not in lock


def test_an_environment_is_kept_until_its_lock_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, commands = tmp_path / "requirements.txt", []
    lock.write_text("one==1")
    monkeypatch.setenv("FLUIDCREW_HOME", str(tmp_path))
    monkeypatch.setattr(environments, "lock_of", lambda peer: lock)
    monkeypatch.setattr(environments, "_run", lambda peer, *command: commands.append(command))
    interpreter = tmp_path / "bench" / "celery" / "bin" / "python"
    interpreter.parent.mkdir(parents=True)
    interpreter.touch()
    for changed in (False, False, True):
        if changed:
            lock.write_text("one==2")
        assert environments.environment("celery") == tmp_path / "bench" / "celery"
    assert [command[1] for command in commands] == ["venv", "pip", "venv", "pip"]


def test_without_redis_and_without_apt_celery_is_left_out_with_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLUIDCREW_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(LeftOut, match="install redis-server to have Celery in the comparison"):
        redis.found()
