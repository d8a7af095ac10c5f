"""Pauses of loops: so long, or until something happens; and tasks that end for certain."""

from __future__ import annotations

import asyncio
from typing import Any


async def happens_within(seconds: float, event: asyncio.Event) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


async def until_any(seconds: float, *events: asyncio.Event) -> None:
    """Until one of the events has happened, or the time is over."""
    waiting = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()


async def ended(task: asyncio.Task[Any]) -> None:
    """Canceled until it is over. Before Python 3.12 wait_for, as nats-py uses it, loses a cancellation that comes together
    with what it waits for: a loop around it would go on."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=0.1)
