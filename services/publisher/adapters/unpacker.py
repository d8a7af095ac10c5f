"""The unpacking process as its parent sees it: an archive goes in, and files come out or what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from chassis.confined import OverLimit, ask, isolated
from chassis.confined_worker import Limit
from contracts.errors import Code, Rejection

WORKER = Path(__file__).resolve().parents[1] / "unpacking" / "__main__.py"
COMMAND = isolated(WORKER, "-S")  # no site packages either
TIMEOUT = 35.0  # seconds; it ends itself before
OVER = {
    Limit.TIME: "unpacking the archive takes too long; leave files out, or pack the folder anew",
    Limit.MEMORY: "unpacking the archive takes more memory than it may; pack the folder anew",
    Limit.SIZE: "a file of the archive grows beyond what it may have; make it smaller, or link it",
}


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
        try:
            answer = await ask((*COMMAND, *arguments), into, self._timeout)
        except OverLimit as over:
            raise Rejection(Code.INVALID, OVER[over.limit]) from None
        if "error" in answer:
            raise Rejection(Code.INVALID, answer["error"])
        return Unpacked(answer["entry"], {path: (sha256, size) for path, sha256, size in answer["files"]})
