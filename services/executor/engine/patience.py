"""How to wait while a server is in trouble: longer each time, or until it is back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from chassis.postgres import CONNECTION_LOST, server_is_away
from contracts.errors import RetryLater

log = structlog.get_logger(__name__)

T = TypeVar("T")

SHORTEST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
AWAY_SECONDS = 0.3  # between looks whether a server is back


class Patience:
    """Of one thing that is tried until it is done: each pause is twice the one before."""

    def __init__(self) -> None:
        self._pause = SHORTEST_PAUSE

    async def wait(self, event: str, error: Exception) -> None:
        log.warning(event, error=repr(error), retry_in=self._pause)
        await asyncio.sleep(self._pause)
        self._pause = min(self._pause * 2, LONGEST_PAUSE)


async def once_there(ask: Callable[[], Awaitable[T]]) -> T:
    """What the database or the object store answers, once it is there: that it is away is no failure of the node."""
    while True:
        try:
            return await ask()
        except (RetryLater, *CONNECTION_LOST) as error:
            if not isinstance(error, RetryLater | TimeoutError) and not server_is_away(error):
                raise
            log.warning("node.waits", error=str(error) or repr(error))
            await asyncio.sleep(AWAY_SECONDS)
