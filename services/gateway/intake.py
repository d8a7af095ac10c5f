"""A pull loop of our own: keeps one request open on a durable consumer and hands over whatever has arrived.

`fetch` of nats-py waits for a whole batch or a timeout and spins on a consumer that is gone (half a
core, measured); here the next transaction takes what came during the previous one, or, under load, what
the stream holds when it is asked for it.
"""

from __future__ import annotations

import asyncio
import json
import time
from types import TracebackType

import structlog
from nats.aio.client import Client

from chassis.arrivals import Arrival, Listening, nak, settle
from chassis.pausing import happens_within
from contracts.streams import ConsumerSpec

log = structlog.get_logger(__name__)

EXPIRES = 30.0
HEARTBEAT = 2.0
SILENCE = 3 * HEARTBEAT  # without even a heartbeat for so long, the request is lost
BUSY = 16  # messages in one go; fewer are not worth waiting for
CADENCE = 0.02  # seconds from one burst to the next
BURST = 1.0  # without its end for so long, the request for a burst is lost
REST = 0.5  # after a refusal: the consumer is missing until the keeper makes it again
NANOSECONDS = 10**9


class Intake:
    """`async with Intake(...) as intake: while …: messages = await intake.take(1.0)`"""

    def __init__(self, nc: Client, spec: ConsumerSpec, stop: asyncio.Event, *, batch: int) -> None:
        self._nc = nc
        self._stop = stop
        self._spec = spec
        self._batch = batch
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{spec.stream}.{spec.durable}"
        self._inbox = f"{nc.new_inbox()}.{spec.durable}"
        self._arrived: asyncio.Queue[Arrival | None] = asyncio.Queue()  # None: stop waiting
        self._listening = Listening(nc, f"{self._inbox}.*", self._hear)
        self._stopping: asyncio.Task[None] | None = None
        self._asked = 0  # number of the request that is open
        self._open = 0  # messages it may still bring
        self._heard = 0.0
        self._not_before = 0.0
        self._reconnects = 0
        self._busy = False
        self._ended = asyncio.Event()  # the request has brought what it was to bring
        self._burst_at = 0.0

    async def __aenter__(self) -> Intake:
        await self._listening.start()
        self._stopping = asyncio.create_task(self._end_waiting())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """What nobody has looked at goes to the next leader at once."""
        if self._stopping is not None:
            self._stopping.cancel()
        await self._listening.stop()
        if self._nc.is_connected:
            await settle(self._nc, [(message, nak(0)) for message in self._waiting(self._arrived.qsize())])

    async def _end_waiting(self) -> None:
        await self._stop.wait()
        self._arrived.put_nowait(None)

    def _waiting(self, limit: int) -> list[Arrival]:
        """What is here already, without waiting for more."""
        here = (self._arrived.get_nowait() for _ in range(min(limit, self._arrived.qsize())))
        return [message for message in here if message is not None]

    def _hear(self, message: Arrival) -> None:
        self._heard = time.monotonic()
        status = message.status
        if not status:
            self._open -= 1
            self._arrived.put_nowait(message)
        elif not status.startswith("100") and message.subject == f"{self._inbox}.{self._asked}":
            self._open = 0
            if status.startswith("408"):  # the request has lived its time; nobody may have to wait for the next one
                self._arrived.put_nowait(None)
            elif not status.startswith("404"):  # there is nothing for a burst to bring
                self._not_before = self._heard + REST
                log.info("timeline.refused", status=status)
        if self._open <= 0:
            self._ended.set()

    async def take(self, timeout: float) -> list[Arrival]:
        """What has arrived, at most a batch; empty when nothing did within `timeout` seconds, or when told to stop.

        Few are handed over as soon as they are here; many, as they come under load, in bursts.
        """
        taken = await self._burst() if self._busy else await self._first(timeout)
        self._busy = len(taken) >= BUSY
        return taken

    async def _first(self, timeout: float) -> list[Arrival]:
        if self._arrived.empty():
            await self._ask(expires=int(EXPIRES * NANOSECONDS), idle_heartbeat=int(HEARTBEAT * NANOSECONDS))
            try:
                async with asyncio.timeout(timeout):
                    first = await self._arrived.get()
            except TimeoutError:
                return []
            return [first, *self._waiting(self._batch - 1)] if first is not None else []
        return self._waiting(self._batch)

    async def _burst(self) -> list[Arrival]:
        """Under load messages are left in the stream for a moment: many in one go cost less than one by one."""
        await happens_within(self._burst_at + CADENCE - time.monotonic(), self._stop)
        self._burst_at = time.monotonic()
        self._ended.clear()
        if await self._ask(no_wait=True) and not await happens_within(BURST, self._ended):
            self._open = 0
        return self._waiting(self._batch)

    async def _ask(self, **terms: object) -> bool:
        now = time.monotonic()
        reconnects = self._nc.stats["reconnects"]
        lost = reconnects != self._reconnects or now - self._heard > SILENCE
        if not self._nc.is_connected or now < self._not_before or (self._open > 0 and not lost):
            return False
        self._asked += 1
        self._open, self._heard, self._reconnects = self._batch, now, reconnects
        wish = json.dumps({"batch": self._batch, **terms}).encode()
        await self._nc.publish(self._next, wish, reply=f"{self._inbox}.{self._asked}")
        return True
