"""Confined processes, real ones: what they may use, what is heard of them, and that nothing of them is left."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvloop

from chassis import confined
from chassis.confined import OverLimit, WorkerDied, ask, gone, isolated
from chassis.confined_worker import Limit
from chassis.testing.eventually import eventually
from contracts.errors import RetryLater

ROOT = Path(__file__).resolve().parents[2]
LIMITS = {"memory": 512 << 20, "cpu": 5, "wall": 30, "written": 1 << 20, "files": 16}
SILENT, LOUD = "signal.pause()", "while True: os.write(1, bytes(100_000))"
TELLS = "Path('pid').write_text(str(os.getpid()))"
HEARD = "print('x' * 1_000_000, flush=True)"  # no pipe holds as much
LEAVES = "if os.fork(): Path('gone').write_text(str(os.getpid())), os._exit(0)"
PATIENCE = 60.0  # seconds; what a test waits for comes long before

Worker = Callable[..., tuple[str, ...]]


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    """The command of a process that does the work of `code` inside its limits, with nothing but the standard library."""

    def made(code: str, **limits: int) -> tuple[str, ...]:
        indented = code.replace("\n", "\n    ")
        script = tmp_path / "worker.py"
        script.write_text(
            f"import errno, os, signal, sys\nfrom pathlib import Path\nsys.path.append({str(ROOT)!r})\n"
            f"from chassis.confined_worker import Limits, answer\ndef work():\n    {indented}\n"
            f"answer(Limits(**{LIMITS | limits}), work)\n"
        )
        return isolated(script, "-S")

    return made


async def over(command: tuple[str, ...], room: Path) -> Limit:
    with pytest.raises(OverLimit) as caught:
        await ask(command, room, PATIENCE)
    return caught.value.limit


async def death(command: tuple[str, ...], room: Path, timeout: float = PATIENCE) -> str:
    with pytest.raises(WorkerDied) as caught:
        await ask(command, room, timeout)
    return str(caught.value)


def workers_in(room: Path) -> list[psutil.Process]:
    alive = (child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE)
    return [child for child in alive if any(str(room) in part for part in child.cmdline())]


async def pid_in(room: Path, name: str = "pid") -> int:
    file = room / name
    return await eventually(lambda: int(file.read_text() or 0) if file.exists() else 0, what="the process")


async def given_up(asking: asyncio.Task[Any]) -> None:
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


async def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def test_a_worker_answers_from_its_room_without_environment_and_without_packages(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "of the service")
    code = """try:
    import pydantic
except ImportError:
    return {"room": os.getcwd(), "secret": os.environ.get("SECRET"), "read": sys.stdin.read()}"""
    assert await ask(worker(code), tmp_path, PATIENCE) == {"room": str(tmp_path), "secret": None, "read": ""}


async def test_a_terminal_s_ctrl_c_is_not_for_a_worker(worker: Worker, tmp_path: Path) -> None:
    assert await ask(worker("return {'leads': os.getpgrp() == os.getpid()}"), tmp_path, PATIENCE) == {"leads": True}


async def test_the_limits_hold_before_the_work_begins(worker: Worker, tmp_path: Path) -> None:
    code = """import resource
found = {n: resource.getrlimit(getattr(resource, "RLIMIT_" + n)) for n in ("CPU", "FSIZE", "NOFILE", "NPROC", "CORE")}
return found | {"wall": signal.alarm(0), "AS": resource.getrlimit(resource.RLIMIT_AS)}"""
    found: dict[str, Any] = await ask(worker(code), tmp_path, PATIENCE)
    assert found.pop("AS") == ([512 << 20] * 2 if sys.platform == "linux" else [-1, -1])
    assert 0 < found.pop("wall") <= 30
    assert found == {"CPU": [5, 6], "FSIZE": [1 << 20] * 2, "NOFILE": [16] * 2, "NPROC": [0, 0], "CORE": [0, 0]}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere memory cannot be bounded")
async def test_memory_beyond_the_limit_is_not_given(worker: Worker, tmp_path: Path) -> None:
    assert await over(worker("return {'size': len(bytearray(600 << 20))}"), tmp_path) is Limit.MEMORY


async def test_a_file_beyond_the_limit_is_not_written(worker: Worker, tmp_path: Path) -> None:
    code = "with open('large', 'wb', buffering=0) as file:\n    while file.write(bytes(300_000)): pass"
    assert await over(worker(code), tmp_path) is Limit.SIZE
    assert (tmp_path / "large").stat().st_size == 1 << 20


@pytest.mark.parametrize(("code", "limit"), [("while True: pass", "cpu"), ("signal.pause()", "wall")])
async def test_who_takes_too_long_is_ended_by_the_system(code: str, limit: str, worker: Worker, tmp_path: Path) -> None:
    assert await over(worker(code, **{limit: 1}), tmp_path) is Limit.TIME


@pytest.mark.parametrize("number", ["ENOSPC", "EDQUOT"])
async def test_a_full_disk_is_a_matter_of_time(number: str, worker: Worker, tmp_path: Path) -> None:
    with pytest.raises(RetryLater, match="no room for a file"):
        await ask(worker(f"raise OSError(errno.{number}, 'No space left on device')"), tmp_path, PATIENCE)


async def test_a_crash_is_told_with_the_last_that_was_said(worker: Worker, tmp_path: Path) -> None:
    said = await death(worker("sys.stderr.write('noise ' * 100_000)\nreturn {'x': 1 / 0}"), tmp_path)
    assert "status 1" in said
    assert said.endswith("ZeroDivisionError: division by zero")
    assert len(said) < 2 * confined.LONGEST_COMPLAINT


async def test_a_worker_that_is_killed_says_nothing_about_what_it_was_given(worker: Worker, tmp_path: Path) -> None:
    assert "status -9: it said nothing" in await death(worker("os.kill(os.getpid(), 9)"), tmp_path)


@pytest.mark.parametrize("said", ["", "{", "[1]", "[" * 100_000], ids=["nothing", "half", "a list", "a tower"])
async def test_what_is_no_answer_is_a_death(said: str, worker: Worker, tmp_path: Path) -> None:
    code = f"sys.stdout.write({said!r})\nsys.stdout.flush()\nos._exit(0)"
    assert "no JSON object" in await death(worker(code), tmp_path)


async def test_an_answer_without_end_is_not_kept(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confined, "LONGEST_ANSWER", 100_000)
    assert "more than 100,000 bytes" in await death(worker("return {'x': 'y' * 1_000_000}"), tmp_path)


async def test_one_that_does_not_even_end_itself_is_ended_and_that_is_no_verdict(
    worker: Worker, tmp_path: Path
) -> None:
    assert "has not ended" in await death(worker(SILENT), tmp_path, timeout=0.3)
    assert workers_in(tmp_path) == []


@pytest.mark.parametrize("then", [SILENT, LOUD], ids=["silent", "loud"])
async def test_a_worker_whose_parent_gives_up_ends_at_once(then: str, worker: Worker, tmp_path: Path) -> None:
    await ends_when_given_up(worker(f"{TELLS}\n{then}"), tmp_path)


async def ends_when_given_up(command: tuple[str, ...], room: Path) -> None:
    asking = asyncio.create_task(ask(command, room, PATIENCE))
    pid = await pid_in(room)
    await given_up(asking)
    assert await is_gone(pid)


async def test_what_a_worker_started_ends_with_it(tmp_path: Path) -> None:
    await takes_along_who_was_left_behind(tmp_path)


async def takes_along_who_was_left_behind(room: Path) -> None:
    """By a worker without limits, which ends before who holds its pipes, and not before somebody listens to it."""
    script = room / "worker.py"
    script.write_text(f"import os, signal\nfrom pathlib import Path\n{HEARD}\n{LEAVES}\n{TELLS}\n{SILENT}")
    asking = asyncio.create_task(ask(isolated(script), room, PATIENCE))
    left_behind, gone = await pid_in(room), await pid_in(room, "gone")
    await eventually(lambda: not psutil.pid_exists(gone), what="the worker's end")
    await given_up(asking)
    await eventually(lambda: is_gone(left_behind), what="the end of who was left behind")


async def test_who_is_cancelled_while_a_process_ends_is_so_when_nothing_of_it_is_left(tmp_path: Path) -> None:
    """Once more and once more: its transport must not outlive the loop."""
    script = tmp_path / "worker.py"
    script.write_text(f"import signal\n{SILENT}")
    process = await asyncio.create_subprocess_exec(*isolated(script), stdout=asyncio.subprocess.PIPE)
    waiting = asyncio.create_task(gone(process))
    for _ in range(3):
        await asyncio.sleep(0)
        waiting.cancel()
    await asyncio.sleep(0)
    assert not waiting.done()
    process.kill()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert process.returncode == -signal.SIGKILL


def test_on_the_loop_of_the_services_it_is_the_same(worker: Worker, tmp_path: Path) -> None:
    """It starts processes, and hears of their ends, in its own way."""

    async def all_of_it() -> None:
        assert await ask(worker("return {'leads': os.getpgrp() == os.getpid()}"), tmp_path, PATIENCE) == {"leads": True}
        assert await over(worker(f"os.kill(os.getpid(), {int(signal.SIGALRM)})"), tmp_path) is Limit.TIME
        assert "has not ended" in await death(worker(SILENT), tmp_path, timeout=0.3)
        await ends_when_given_up(worker(f"{TELLS}\n{LOUD}"), tmp_path)
        (tmp_path / "pid").unlink()
        await takes_along_who_was_left_behind(tmp_path)

    uvloop.run(all_of_it())


@pytest.mark.parametrize("number", [signal.SIGALRM, signal.SIGXCPU], ids=str)
async def test_the_system_s_word_for_too_long_is_understood(
    number: signal.Signals, worker: Worker, tmp_path: Path
) -> None:
    assert await over(worker(f"os.kill(os.getpid(), {int(number)})"), tmp_path) is Limit.TIME


async def test_it_reads_what_it_is_given_to_the_end_or_not_at_all(worker: Worker, tmp_path: Path) -> None:
    given = bytes(range(256)) * 8192  # no pipe holds as much
    reads = worker("import hashlib\nreturn {'sha256': hashlib.sha256(sys.stdin.buffer.read()).hexdigest()}")
    assert await ask(reads, tmp_path, PATIENCE, given) == {"sha256": hashlib.sha256(given).hexdigest()}
    assert await ask(worker("return {'read': 0}"), tmp_path, PATIENCE, given) == {"read": 0}
