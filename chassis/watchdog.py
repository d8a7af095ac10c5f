"""The watchdog: a thread that ends the process when its event loop has not ticked for ten seconds.

A frozen loop answers no health check and no SIGTERM; a process that is gone is restarted by whoever supervises it.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
import traceback

from chassis.telemetry import LOOP_LAG

LIMIT = 10.0  # seconds
TICK = 0.5


class Watchdog:
    def __init__(self, limit: float = LIMIT) -> None:
        self._limit = limit
        self._ticked = time.monotonic()
        self._loop_thread = threading.get_ident()
        self._over = threading.Event()

    @property
    def age(self) -> float:
        """Seconds since the loop last ticked."""
        return time.monotonic() - self._ticked

    async def run(self, stop: asyncio.Event) -> None:
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        try:
            while not stop.is_set():
                began = time.monotonic()
                await asyncio.sleep(TICK)
                self._ticked = time.monotonic()
                LOOP_LAG.set(max(0.0, self._ticked - began - TICK))
        finally:
            self._over.set()

    def _watch(self) -> None:
        late = 0
        while not self._over.wait(1.0):
            # a process that was stopped and continued is late once, a frozen loop stays late
            late = late + 1 if self.age > self._limit else 0
            if late >= 3:
                frame = sys._current_frames().get(self._loop_thread)
                where = "".join(traceback.format_stack(frame)) if frame else "unknown"
                sys.stderr.write(f"watchdog: the event loop froze for {self.age:.0f} s at\n{where}\n")
                sys.stderr.flush()
                os._exit(70)
