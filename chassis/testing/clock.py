"""The clock of a test's event loop, which the test may put forward: no machine is too slow, or too fast, for that."""

from __future__ import annotations

import asyncio


class Clock:
    """Timers, timeouts and sleeps of the loop go by it; it also runs on by itself."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._real = loop.time
        self._ahead = 0.0
        loop.time = self._now  # type: ignore[method-assign]

    def leap(self, seconds: float) -> None:
        """What would be over in `seconds` is over at the next turn of the loop."""
        self._ahead += seconds

    def _now(self) -> float:
        return self._real() + self._ahead
