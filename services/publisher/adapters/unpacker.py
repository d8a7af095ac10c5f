"""The unpacking process as its parent sees it: started without rights or secrets, heard once, and always ended."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from contracts.errors import Code, FluidcrewError, Rejection, RetryLater

WORKER = Path(__file__).resolve().parents[1] / "unpacking" / "__main__.py"
COMMAND = (
    sys.executable,
    "-I",
    "-S",
    str(WORKER),
)  # no environment, no site packages, nothing of the current directory
TIMEOUT = 35.0  # seconds; it ends itself before
NO_ROOM = 10.0  # seconds until a full disk is tried again
TOO_LONG = "unpacking the archive takes too long; leave files out, or pack the folder anew"
MOST_SAID = 2000  # characters of what a dying worker said


class WorkerDied(FluidcrewError):
    """It ended without a word about the archive, by itself or killed by somebody."""


class Unpacked(NamedTuple):
    """`files` lie in the directory, each under its sha256: path -> sha256, size."""

    entry: str
    files: dict[str, tuple[str, int]]


class Unpacker:
    """`timeout` in seconds."""

    def __init__(self, timeout: float = TIMEOUT) -> None:
        self._timeout = timeout

    async def unpack(self, archive: Path, into: Path, entry: str | None) -> Unpacked:
        """Raises Rejection with what is wrong with the archive, RetryLater when there is no room, or WorkerDied."""
        arguments = (str(archive), str(into), *([] if entry is None else [entry]))
        process = await asyncio.create_subprocess_exec(
            *COMMAND, *arguments, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env={}, cwd=into
        )
        try:
            async with asyncio.timeout(self._timeout):
                said, complaint = await process.communicate()
        except TimeoutError:  # no archive does that: the worker's own alarm comes first
            raise WorkerDied(f"the unpacking process has not ended within {self._timeout:.0f} s, or we slept") from None
        finally:
            await _end(process)
        return _understood(process.returncode, said, complaint)


async def _end(process: Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
        await asyncio.shield(process.wait())


def _understood(status: int | None, said: bytes, complaint: bytes) -> Unpacked:
    if status in (-signal.SIGALRM, -signal.SIGXCPU):
        raise Rejection(Code.INVALID, TOO_LONG)
    if status != 0:
        last = complaint.decode("utf-8", "replace")[-MOST_SAID:].strip()
        raise WorkerDied(f"the unpacking process ended with status {status}: {last or 'it said nothing'}")
    answer = json.loads(said)
    if "no_room" in answer:
        raise RetryLater(NO_ROOM, f"an archive cannot be unpacked now: {answer['no_room']}")
    if "error" in answer:
        raise Rejection(Code.INVALID, answer["error"])
    return Unpacked(answer["entry"], {path: (sha256, size) for path, sha256, size in answer["files"]})
