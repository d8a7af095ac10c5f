"""The supervisor as a process: what it starts, it ends, whatever happens to it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from chassis.testing.eventually import eventually
from deploy.local.environment import CHECKOUT
from deploy.local.ports import free_port
from deploy.local.supervisor import stopped_by_signals

PARTS = {"nats-server", "rclone", "postgres"}


class Supervisor:
    """One run of tests.local.supervise, with what it printed."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.home = home
        self.lines: list[str] = []
        ports = {"PORT": str(free_port()), "PREVIEW_PORT": str(free_port())}
        inherited = {k: v for k, v in os.environ.items() if k not in ("NATS_URL", "DATABASE_URL", "S3_ENDPOINT_URL")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.local.supervise"],
            cwd=CHECKOUT,
            env=inherited | ports | {"FLUIDCREW_HOME": str(home)} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(line.rstrip() for line in self.process.stdout)

    async def _said(self, found: Callable[[], bool], what: str) -> None:
        await eventually(lambda: found() or self.process.poll() is not None, timeout=60, what=what)
        assert found(), f"no {what}; it said: {self.lines}"

    async def is_up(self) -> None:
        def all_said_so() -> bool:
            started = sum(" is pid " in line for line in self.lines)
            return started >= 4 and any(line.startswith("up ") for line in self.lines)

        await self._said(all_said_so, "line that says up")

    async def says(self, pattern: str) -> None:
        await self._said(lambda: any(re.search(pattern, line) for line in self.lines), pattern)

    async def ended(self) -> int:
        await eventually(lambda: self.process.poll() is not None, what="the supervisor's end")
        self._reader.join(60)
        return int(self.process.returncode)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def pid_of(self, name: str) -> int:
        found = [int(m.group(1)) for line in self.lines if (m := re.search(rf"\b{name} is pid (\d+)", line))]
        return found[-1]

    def part(self, name: str) -> psutil.Process:
        children = psutil.Process(self.process.pid).children()
        return next(c for c in children if c.name() == name and c.status() != psutil.STATUS_ZOMBIE)

    def processes(self) -> list[psutil.Process]:
        """Everything alive that works in this home, or is one of its services."""
        found = []
        for process in psutil.process_iter(["cmdline", "environ", "status"]):
            words = " ".join(process.info["cmdline"] or []) + (process.info["environ"] or {}).get("FLUIDCREW_HOME", "")
            if str(self.home) in words and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process)
        return found


@pytest.fixture
def home() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="fluidcrew-up-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def start(home: Path) -> Iterator[Callable[..., Supervisor]]:
    started: list[Supervisor] = []

    def launch(**environment: str) -> Supervisor:
        started.append(Supervisor(home, **environment))
        return started[-1]

    yield launch
    for supervisor in started:
        if supervisor.process.poll() is None:
            supervisor.process.kill()
            supervisor.process.wait(10)


Start = Callable[..., Supervisor]


async def test_ctrl_c_drains_the_services_before_it_stops_what_they_stand_on(start: Start) -> None:
    supervisor = start()
    await supervisor.is_up()
    supervisor.signal(signal.SIGINT)
    assert await supervisor.ended() == 0
    assert sum("drained" in line for line in supervisor.lines) == 4
    assert supervisor.lines[-1] == "stopped by SIGINT"
    assert supervisor.processes() == []
    assert not (supervisor.home / "stack.json").exists()


async def test_sigterm_drains_as_well(start: Start) -> None:
    supervisor = start()
    await supervisor.is_up()
    supervisor.signal(signal.SIGTERM)
    assert await supervisor.ended() == 0
    assert supervisor.lines[-1] == "stopped by SIGTERM"


async def test_a_second_ctrl_c_does_not_wait_for_the_drain(start: Start) -> None:
    supervisor = start(FAKE_DRAIN_SECONDS="3600")
    await supervisor.is_up()
    supervisor.signal(signal.SIGINT)
    await supervisor.says("draining")
    supervisor.signal(signal.SIGINT)
    assert await supervisor.ended() == 0
    assert not any("drained" in line for line in supervisor.lines)
    assert supervisor.processes() == []


async def test_killing_the_supervisor_leaves_no_process_and_the_next_start_recovers(start: Start) -> None:
    first = start()
    await first.is_up()
    assert {p.name() for p in first.processes()} >= PARTS
    first.process.kill()
    await eventually(lambda: not first.processes(), what="the end of every child")
    second = start()
    await second.is_up()
    second.signal(signal.SIGINT)
    assert await second.ended() == 0


async def test_what_nohup_ignores_does_not_stop_it() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        async with stopped_by_signals(asyncio.Event(), asyncio.Event()):
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


async def test_a_second_supervisor_is_refused_with_one_line(start: Start) -> None:
    first = start()
    await first.is_up()
    second = start()
    assert await second.ended() == 1
    assert len(second.lines) == 1
    assert f"(pid {first.process.pid})" in second.lines[0]
    assert (first.home / "stack.json").exists()


async def test_a_port_in_use_is_named_with_its_variable(start: Start) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = str(holder.getsockname()[1])
        supervisor = start(PORT=port)
        assert await supervisor.ended() == 1
    assert supervisor.lines == [f"error: port {port} is in use: stop what listens there, or set PORT to another port"]


async def test_a_service_that_cannot_start_is_reported_with_its_last_words(start: Start) -> None:
    supervisor = start(FAKE_BROKEN="planner")
    assert await supervisor.ended() == 1
    assert "error: planner does not start; its last lines:" in supervisor.lines
    assert supervisor.lines[-1] == "PLANNER_POOL: not a number"
    assert supervisor.processes() == []


async def test_a_service_that_dies_is_started_again(start: Start) -> None:
    supervisor = start()
    await supervisor.is_up()
    victim = supervisor.pid_of("planner")
    os.kill(victim, signal.SIGKILL)
    await eventually(lambda: supervisor.pid_of("planner") != victim)
    assert any("planner" in line and "ended with code -9" in line for line in supervisor.lines)


@pytest.mark.parametrize("part", sorted(PARTS))
async def test_an_embedded_server_that_dies_comes_back_on_its_port(start: Start, part: str) -> None:
    supervisor = start()
    await supervisor.is_up()
    before = json.loads((supervisor.home / "ports.json").read_text())
    victim = supervisor.part(part)
    port = before[{"nats-server": "nats", "rclone": "s3"}.get(part, part)]
    victim.kill()
    await eventually(lambda: supervisor.part(part).pid != victim.pid, what=f"a new {part}")
    await eventually(lambda: socket.create_connection(("127.0.0.1", port), 1).close() is None)
    assert json.loads((supervisor.home / "ports.json").read_text()) == before


async def test_a_restart_uses_the_same_ports_and_another_one_where_it_was_taken(start: Start) -> None:
    first = start()
    await first.is_up()
    before = json.loads((first.home / "ports.json").read_text())
    first.signal(signal.SIGINT)
    await first.ended()
    with socket.socket() as thief:
        thief.bind(("127.0.0.1", before["nats"]))
        thief.listen()
        second = start()
        await second.is_up()
    after = json.loads((first.home / "ports.json").read_text())
    assert after["nats"] != before["nats"]
    assert (after["postgres"], after["s3"]) == (before["postgres"], before["s3"])


async def test_everything_that_holds_a_secret_is_private(start: Start) -> None:
    supervisor = start()
    await supervisor.is_up()
    home = supervisor.home
    holders = [home / "stack.json", home / "nats" / "nats.conf", *(home / "secrets").iterdir()]
    assert len(holders) > 8
    assert {oct(f.stat().st_mode & 0o777) for f in holders} == {"0o600"}
    secrets = {f.read_text() for f in (home / "secrets").iterdir()}
    seen = " ".join(word for p in supervisor.processes() for word in p.cmdline()) + " ".join(supervisor.lines)
    assert not [s for s in secrets if s in seen]


async def test_each_service_gets_its_own_user_and_role_and_nobody_elses(start: Start) -> None:
    supervisor = start(PLANNER_DATABASE_URL="", OPENAI_BASE_URL="http://127.0.0.1:9")
    await supervisor.is_up()
    environment = psutil.Process(supervisor.pid_of("executor")).environ()
    assert environment["NATS_URL"].startswith("nats://executor:")
    assert environment["DATABASE_URL"].startswith("postgresql://executor:")
    assert environment["OPENAI_BASE_URL"] == "http://127.0.0.1:9"
    other = {
        f.name: f.read_text()
        for f in (supervisor.home / "secrets").iterdir()
        if "executor" not in f.name and f.name != "s3"
    }
    assert not [name for name, secret in other.items() if secret in str(environment)]
