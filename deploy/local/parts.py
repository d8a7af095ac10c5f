"""What the embedded parts have in common: launched without waiting, so that all of them start at the same time."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Protocol

from deploy.local.process import POLL_SECONDS, Child, StartFailed

START_SECONDS = 30.0


class Part(Protocol):
    """One embedded server."""

    name: str
    child: Child

    def launch(self) -> None:
        """Starts the process; what it needs on disk is made first."""

    def answers(self) -> bool:
        """Whether it serves clients by now."""

    def complaint(self) -> str:
        """What keeps a running server from its work; empty as a rule. It is restarted once `curable`."""

    def curable(self) -> bool:
        """Whether a restart would end the complaint."""


async def ready(part: Part, patience: float = START_SECONDS) -> None:
    deadline = time.monotonic() + patience
    while not _is_up(part, deadline):  # noqa: ASYNC110
        await asyncio.sleep(POLL_SECONDS)  # nobody signals that a server accepts connections


def ready_now(part: Part, patience: float = START_SECONDS) -> None:
    """`ready` for callers without an event loop."""
    deadline = time.monotonic() + patience
    while not _is_up(part, deadline):
        time.sleep(POLL_SECONDS)


def _is_up(part: Part, deadline: float) -> bool:
    code = part.child.exit_code
    if code is not None:
        raise StartFailed(f"{part.name} ended with code {code} while it started:\n{part.child.log_tail()}")
    if part.answers():
        return True
    if time.monotonic() > deadline:
        raise StartFailed(f"{part.name} did not answer in time; see {part.child.log}\n{part.child.log_tail()}")
    return False


def greets(port: int, greeting: bytes = b"") -> bool:
    """Whether a server on loopback accepts connections (and says `greeting` first)."""
    try:
        with socket.create_connection(("127.0.0.1", port), 0.5) as connection:
            return not greeting or connection.recv(len(greeting)) == greeting
    except OSError:
        return False
