"""Signals that end a command as Ctrl-C does, so that it puts away what it opened."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

ENDING = (signal.SIGTERM, signal.SIGHUP)
INSIST_AFTER = 2.0  # seconds; a library may have swallowed the cancellation anywhere below us


@contextmanager
def canceled_by_signals() -> Iterator[None]:
    """The current task, while the block lasts. What is ignored stays so: `nohup` means it."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    insisting: list[asyncio.TimerHandle] = []

    def end() -> None:
        task.cancel()
        insisting.append(loop.call_later(INSIST_AFTER, insist))

    def insist() -> None:
        for one in asyncio.all_tasks(loop):
            one.cancel()
        insisting.append(loop.call_later(INSIST_AFTER, insist))

    caught = [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    for number in caught:
        loop.add_signal_handler(number, end)
    try:
        yield
    finally:
        for timer in insisting:
            timer.cancel()
        for number in caught:
            loop.remove_signal_handler(number)


def end_if_canceled() -> None:
    """nats-py waits with `asyncio.wait_for`, which on Python 3.11 hands out a message in place of a cancellation."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
