"""The watchdog: a thread that ends the process when its event loop has not ticked for ten seconds.

A frozen loop answers no health check and no SIGTERM; a process that is gone is restarted by whoever supervises it. A loop
that is only kept waiting for a processor is not frozen: to start it anew would make the machine busier.
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
LOOK = 1.0
STANDSTILL = 0.02  # of a processor: who gets less does nothing, or polls


class Watchdog:
    def __init__(self, limit: float = LIMIT) -> None:
        self._limit = limit
        self._ticked = time.monotonic()
        self._worked = time.thread_time()
        self._loop_thread = threading.get_ident()
        self._over = threading.Event()

    @property
    def age(self) -> float:
        """Seconds since the loop last ticked."""
        return time.monotonic() - self._ticked

    async def run(self, stop: asyncio.Event) -> None:
        self._ticked, self._worked = time.monotonic(), time.thread_time()  # what was waited for before is no delay
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        try:
            while not stop.is_set():
                began = time.monotonic()
                await asyncio.sleep(TICK)
                self._ticked, self._worked = time.monotonic(), time.thread_time()
                LOOP_LAG.set(max(0.0, self._ticked - began - TICK))
        finally:
            self._over.set()

    def _watch(self) -> None:
        late, used = 0, _time_of(self._loop_thread)
        while not self._over.wait(LOOK):
            before, used = used, _time_of(self._loop_thread)
            # a process that was stopped and continued is late once, a frozen loop stays late
            late = late + 1 if is_frozen(self.age, used - before, used - self._worked, self._limit) else 0
            if late >= 3:
                self._end()

    def _end(self) -> None:
        frame = sys._current_frames().get(self._loop_thread)
        where = "".join(traceback.format_stack(frame)) if frame else "unknown"
        sys.stderr.write(f"watchdog: the event loop froze for {self.age:.0f} s at\n{where}\n")
        sys.stderr.flush()
        os._exit(70)


def is_frozen(age: float, lately: float, since_tick: float, limit: float) -> bool:
    """`lately` and `since_tick` are seconds that the loop's thread had a processor: since the latest look, and in all."""
    stands_still = lately < STANDSTILL * LOOK
    return age > limit and (stands_still or since_tick > limit)


def _time_of(thread: int) -> float:
    if not hasattr(time, "pthread_getcpuclockid"):  # macOS: whoever is late is frozen
        return 0.0
    return time.clock_gettime(time.pthread_getcpuclockid(thread))
