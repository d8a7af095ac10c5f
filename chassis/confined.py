"""A process that works on strangers' bytes, as its parent sees it: without rights or secrets, heard once, always ended."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from chassis.confined_worker import NO_ROOM, OVER, Limit
from chassis.scratch import NO_ROOM as UNTIL_ROOM
from contracts.errors import FluidcrewError, RetryLater

LONGEST_ANSWER = 8 * 1024 * 1024  # bytes
LONGEST_COMPLAINT = 2000  # bytes, the last of what it said while it died
CHUNK = 64 * 1024
NOWHERE = Path("/")  # the room of who writes no file


class OverLimit(FluidcrewError):
    """What it was given takes more than it may use."""

    def __init__(self, limit: Limit) -> None:
        super().__init__(f"it takes more {limit} than it may")
        self.limit = limit


class WorkerDied(FluidcrewError):
    """It ended without a word about what it was given, by itself or killed by somebody."""


def isolated(script: Path, *options: str) -> tuple[str, ...]:
    """Python, with nothing of the environment or the current directory."""
    return sys.executable, "-I", *options, str(script)


async def ask(command: Sequence[str], room: Path, timeout: float, given: bytes = b"") -> dict[str, Any]:
    """Its answer; it works in `room`, and ends itself before the `timeout`. `given` is what it reads on its standard
    input. A terminal's Ctrl-C is not for it.

    Raises OverLimit, RetryLater when its disk is full, or WorkerDied.
    """
    process = await asyncio.create_subprocess_exec(
        *command, stdin=PIPE if given else DEVNULL, stdout=PIPE, stderr=PIPE, env={}, cwd=room, start_new_session=True
    )
    try:
        async with asyncio.timeout(timeout):
            said, complaint = await _heard(process, given)
    except TimeoutError:  # no work does that: its own alarm comes first
        raise WorkerDied(f"the process has not ended within {timeout:g} s, or we slept") from None
    finally:
        await _end(process)
    return _understood(process.returncode, said, complaint, room)


class Filter:
    """A program that answers for what it reads on its standard input and writes no file, as Unix calls it.

    It ends itself before the `timeout` in seconds; more than `at_once` of them wait for each other.
    """

    def __init__(self, script: Path, timeout: float = 20.0, at_once: int = 2) -> None:
        self._command, self._timeout, self._places = isolated(script), timeout, asyncio.Semaphore(at_once)

    async def ask(self, given: bytes, *arguments: str) -> dict[str, Any]:
        """Raises OverLimit or WorkerDied: memory that a library asks for in vain ends the process."""
        async with self._places:
            return await ask((*self._command, *arguments), NOWHERE, self._timeout, given)


async def gone(process: Process) -> None:
    """Waits until it has ended, and its pipes. Who is cancelled meanwhile waits all the same, and is cancelled then: what is
    left of a process must not outlive the loop."""
    ending, canceled = asyncio.ensure_future(process.communicate()), False
    while not ending.done():
        try:
            await asyncio.wait({ending})
        except asyncio.CancelledError:
            canceled = True
    if canceled:
        raise asyncio.CancelledError
    ending.result()


async def _end(process: Process) -> None:
    """At once, with all it started."""
    if process.returncode is None or not all(pipe.at_eof() for pipe in _pipes(process)):
        with suppress(ProcessLookupError, PermissionError):  # the latter is macOS' word for one that has just ended
            os.killpg(process.pid, signal.SIGKILL)
    await gone(process)


def _pipes(process: Process) -> tuple[asyncio.StreamReader, asyncio.StreamReader]:
    assert process.stdout is not None
    assert process.stderr is not None
    return process.stdout, process.stderr


async def _heard(process: Process, given: bytes) -> tuple[bytes, bytes]:
    stdout, stderr = _pipes(process)
    async with asyncio.TaskGroup() as talk:
        said, complaint = talk.create_task(_first(stdout)), talk.create_task(_last(stderr))
        talk.create_task(_give(process.stdin, given))
    await process.wait()
    return said.result(), complaint.result()


async def _give(pipe: asyncio.StreamWriter | None, given: bytes) -> None:
    if pipe is None:
        return
    with suppress(BrokenPipeError, ConnectionResetError):  # it has ended; how, is told by its status
        pipe.write(given)
        await pipe.drain()
    pipe.close()


async def _first(pipe: asyncio.StreamReader) -> bytes:
    """One byte more than it may say, when it says more; the rest is read and forgotten."""
    said = bytearray()
    while data := await pipe.read(CHUNK):
        said += data[: LONGEST_ANSWER + 1 - len(said)]
    return bytes(said)


async def _last(pipe: asyncio.StreamReader) -> bytes:
    said = b""
    while data := await pipe.read(CHUNK):
        said = (said + data)[-LONGEST_COMPLAINT:]
    return said


def _understood(status: int | None, said: bytes, complaint: bytes, room: Path) -> dict[str, Any]:
    if status in (-signal.SIGALRM, -signal.SIGXCPU):
        raise OverLimit(Limit.TIME)
    if status != 0:
        last = complaint.decode("utf-8", "replace").strip()
        raise WorkerDied(f"the process ended with status {status}: {last or 'it said nothing'}")
    answer = _parsed(said)
    if OVER in answer:
        raise OverLimit(Limit(answer[OVER]))
    if NO_ROOM in answer:
        raise RetryLater(UNTIL_ROOM, f"there is no room for a file in {room}: {answer[NO_ROOM]}")
    return answer


def _parsed(said: bytes) -> dict[str, Any]:
    if len(said) > LONGEST_ANSWER:
        raise WorkerDied(f"the process answered with more than {LONGEST_ANSWER:,} bytes")
    try:
        answer = json.loads(said)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise WorkerDied(f"the process answered with no JSON object: {said[:LONGEST_COMPLAINT]!r}")
    return answer
