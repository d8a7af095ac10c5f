"""The services' processes: started, their output relayed line by line, restarted when they die, drained at the end."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from deploy.local.environment import CHECKOUT
from deploy.local.process import Child, StartFailed

WATCH_SECONDS = 0.05
SHORTEST_BACKOFF_SECONDS = 0.2
LONGEST_BACKOFF_SECONDS = 10.0
SETTLED_SECONDS = 30.0  # a process that lived this long starts over with the shortest backoff
LONGEST_LINE = 64 * 1024

Log = Callable[[str, str], None]  # source, line


def command_of(service: str) -> list[str]:
    return [sys.executable, "-m", f"services.{service}"]


class ServiceProcess:
    """One of the processes of a service, for as long as the stack runs, whatever becomes of it."""

    def __init__(self, name: str, command: Sequence[str], env: Mapping[str, str], log: Log, file: Path) -> None:
        self.name = name
        self.child = Child(name, command, None, env=env, cwd=CHECKOUT)
        self.deaths = 0
        self.last_lines: list[str] = []
        self._log, self._file = log, file
        self._stopping = False
        self._relay: LineRelay | None = None

    async def keep_running(self) -> None:
        delay = SHORTEST_BACKOFF_SECONDS
        while not self._stopping:
            started = time.monotonic()
            try:
                await self._launch()
            except StartFailed as error:
                self._heard(str(error))
            while self.child.running:  # noqa: ASYNC110
                await asyncio.sleep(WATCH_SECONDS)
            if self._stopping:
                return
            self.deaths += 1
            if time.monotonic() - started > SETTLED_SECONDS:
                delay = SHORTEST_BACKOFF_SECONDS
            self._log(self.name, f"ended with code {self.child.exit_code}; starting it again in {delay:.1f} s")
            await asyncio.sleep(delay)
            delay = min(delay * 2, LONGEST_BACKOFF_SECONDS)

    async def drain(self, patience: float, hurry: asyncio.Event) -> None:
        """Asks it to finish what it holds; kills it when it takes too long or somebody hurries."""
        self._stopping = True
        ended = asyncio.create_task(self.child.stop(patience))
        hurried = asyncio.create_task(hurry.wait())
        await asyncio.wait({ended, hurried}, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            self.child.signal(signal.SIGKILL)
        await ended
        hurried.cancel()
        if self._relay is not None:
            await asyncio.wait({self._relay.closed}, timeout=1.0)

    async def _launch(self) -> None:
        self.child.launch()
        assert self.child.process is not None
        relay = self._relay = LineRelay(self._heard, self._file)
        await asyncio.get_running_loop().connect_read_pipe(lambda: relay, self.child.process.stdout)

    def _heard(self, line: str) -> None:
        self.last_lines = [*self.last_lines[-4:], line]
        self._log(self.name, line)


class LineRelay(asyncio.Protocol):
    """Cuts what a process writes into lines: all of it goes to its file, each line to the listener."""

    def __init__(self, listener: Callable[[str], None], file: Path) -> None:
        self._listener = listener
        self._stream = file.open("ab", buffering=0)
        self._rest = b""
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        try:
            self._stream.write(data)
        except OSError as error:  # a full disk must not silence the console as well
            self._listener(f"(its log file cannot be written: {error.strerror})")
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LONGEST_LINE:
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            self._listener(line.decode(errors="replace").rstrip("\r"))

    def connection_lost(self, error: Exception | None) -> None:
        if self._rest:
            self._listener(self._rest.decode(errors="replace"))
        self._stream.close()
        if not self.closed.done():
            self.closed.set_result(None)
