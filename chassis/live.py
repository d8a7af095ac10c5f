"""Watching live messages: what a subject says from now on, until the watcher leaves or falls behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nats.aio.client import Client
from nats.aio.msg import Msg

from contracts.errors import FluidcrewError


class SlowWatcher(FluidcrewError):
    """A watcher did not keep up and must start again."""


@asynccontextmanager
async def watch(nc: Client, subject: str, limit: int) -> AsyncIterator[AsyncIterator[tuple[str, bytes]]]:
    """Live messages of a subject, oldest first. A watcher who falls `limit` behind raises SlowWatcher."""
    queue: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue(limit)
    overflow = asyncio.Event()

    async def put(message: Msg) -> None:
        if overflow.is_set():
            return  # after a gap nothing follows
        try:
            queue.put_nowait((message.subject, message.data))
        except asyncio.QueueFull:
            overflow.set()

    subscription = await nc.subscribe(subject, cb=put)
    try:
        yield _drain(queue, overflow)
    finally:
        if not nc.is_closed:  # without a connection as well, or it would be renewed with the next one
            await subscription.unsubscribe()


async def _drain(queue: asyncio.Queue[tuple[str, bytes]], overflow: asyncio.Event) -> AsyncIterator[tuple[str, bytes]]:
    while True:
        if overflow.is_set() and queue.empty():
            raise SlowWatcher("too many live messages were not read in time")
        yield await queue.get()
