"""A driver as a process: orders go in, answers come out, and between its turns it sleeps so that it disturbs nobody."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import psutil

from bench.contestant import LeftOut
from deploy.local.environment import CHECKOUT
from deploy.local.process import bound_to_parent

START_SECONDS = 60.0
ANSWER_SECONDS = 180.0
STOP_SECONDS = 10.0
LONGEST_ANSWER = 2**25  # bytes of a line


class DriverFailed(Exception):
    """A driver answered with an error, or not at all; the message ends with what it said."""


class Driver:
    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process, self._log = process, log
        self.versions: dict[str, str] = {}

    @property
    def pid(self) -> int:
        return self._process.pid

    async def greeted(self) -> None:
        try:
            self.versions = (await self._answer(START_SECONDS))["versions"]
        except DriverFailed as error:
            raise LeftOut(str(error)) from error

    async def ask(self, do: str, *, patience: float = ANSWER_SECONDS, **given: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **given}).encode() + b"\n")
        return await self._answer(patience)

    async def _answer(self, patience: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), patience)
        except TimeoutError as error:
            raise DriverFailed(f"no answer within {patience:.0f} s; {self._last_words()}") from error
        if not line:
            raise DriverFailed(f"the driver has ended; {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise DriverFailed(f"{answer['error']}; {self._last_words()}")
        return answer

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return f"its last words: {lines[-1]}" if lines else "it said nothing"

    async def stop(self) -> None:
        """The end of its stdin tells it to stop."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_SECONDS)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def driver(python: Path, module: str, log: Path, environ: Mapping[str, str]) -> AsyncIterator[Driver]:
    with log.open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            str(python), "-m", module,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=errors, cwd=CHECKOUT,
            env={**os.environ, **environ}, start_new_session=True, preexec_fn=bound_to_parent(None, signal.SIGKILL),
            limit=LONGEST_ANSWER,
        )  # fmt: skip
    driving = Driver(process, log)
    try:
        await driving.greeted()
        yield driving
    finally:
        await driving.stop()


@contextmanager
def awake(roots: Sequence[int]) -> Iterator[None]:
    """Lets these process trees run inside the block only."""
    _tell(roots, signal.SIGCONT)
    try:
        yield
    finally:
        _tell(roots, signal.SIGSTOP)


def wake(roots: Sequence[int]) -> None:
    """For ever: a stopped process would not hear that it shall end."""
    _tell(roots, signal.SIGCONT)


def _tell(roots: Sequence[int], number: signal.Signals) -> None:
    for root in roots:
        try:
            tree = psutil.Process(root)
            for process in (tree, *tree.children(recursive=True)):
                process.send_signal(number)
        except psutil.NoSuchProcess:
            continue
