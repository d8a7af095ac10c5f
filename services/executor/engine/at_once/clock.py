"""What the fence would say without asking: the number of the next turn, and the database's time by our own clock."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from services.executor.engine.store import Fence

TRUSTED = 5.0  # seconds since the database said its time; clocks are set, and hosts sleep


class Clock:
    """Never ahead of the database: its time is taken down later than it was told."""

    def __init__(self) -> None:
        self._told: Fence | None = None
        self._at = 0.0

    def told(self, fence: Fence) -> None:
        self._told, self._at = fence, asyncio.get_running_loop().time()

    def heard(self, fence: Fence) -> None:
        """What a beat said; turns may have been written meanwhile."""
        if self._told is None or fence.turn >= self._told.turn:
            self.told(fence)

    def forget(self) -> None:
        self._told = None

    def expected(self) -> Fence | None:
        passed = asyncio.get_running_loop().time() - self._at
        if self._told is None or passed > TRUSTED:
            return None
        return Fence(self._told.now + timedelta(seconds=passed), self._told.turn + 1)
