"""The executor at work: registers, hears bells, polls, commits, and hands everything back when it shall stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

import structlog

from chassis.postgres import Connection, Pool
from chassis.relay import Relay
from services.executor.domain.run import ReviewRules
from services.executor.engine import store
from services.executor.engine.claims import NO_RULES
from services.executor.engine.committer import Committer
from services.executor.engine.inbox import Inbox, Newcomer
from services.executor.engine.leases import Lease
from services.executor.engine.owner import Owner, Perform
from services.executor.engine.weather.gate import Doorman

log = structlog.get_logger(__name__)

OTHERS_LOOK_AFTER = 0.01  # seconds that a new run is left to the executor that was told of it


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds, and counts."""

    concurrency: int = 16  # model calls at once
    most_runs: int = 256  # owned at once
    lease: float = 10.0
    poll: float = 1.0
    quiet: float = 30.0  # a run in which nothing happens for so long is given away
    drain: float = 5.0  # what runs may finish when we shall stop
    review: ReviewRules = NO_RULES


class Engine:
    def __init__(
        self,
        pool: Pool,
        connect: Callable[[], Awaitable[Connection]],
        relay: Relay,
        perform: Perform,
        doorman: Doorman,
        limits: Limits,
    ) -> None:
        self._pool = pool
        self._limits = limits
        self._inbox = Inbox()
        self.lease = Lease(pool, limits.lease, on_lost=self._inbox.look_around)
        self.owner = Owner(
            self._inbox,
            perform,
            self.lease.is_fresh,
            doorman,
            slots=limits.concurrency,
            most_runs=limits.most_runs,
            others_first=limits.poll,
        )
        self.committer = Committer(connect, self.lease, self._inbox, self.owner, relay, limits.review)
        doorman.on_change(self.owner.look_at_the_parked)
        self._sooner = asyncio.Event()
        self._loops: list[asyncio.Task[None]] = []

    async def hear(self, body: bytes) -> None:
        """The bell of `sig.executor.run`: a run has an order, or may be claimed."""
        run_id = UUID(body.decode())
        if run_id in self.owner.held:
            self._inbox.orders_wait([run_id])
        else:
            self._inbox.look_around()

    def welcome(self, run: Newcomer) -> None:
        """It was committed here: it may be claimed without being read."""
        self._inbox.welcome(run)

    async def hear_of_a_new_run(self, _: bytes) -> None:
        """The bell of `sig.executor.queued`. Whoever committed the run claims it; if all looked for it at once, the others'
        empty turns would stand in its way."""
        asyncio.get_running_loop().call_later(OTHERS_LOOK_AFTER, self._sooner.set)

    async def check(self) -> None:
        """Raises when this process could start nothing: its lease was not renewed lately."""
        if not self.lease.is_fresh():
            raise ConnectionError("the lease was not renewed lately")

    async def run(self, stop: asyncio.Event) -> None:
        """Until told to stop; a loop that breaks ends the process."""
        if not await self._entered(stop):
            return
        self._inbox.look_around()
        async with asyncio.TaskGroup() as group:
            works = (self.lease.keep, self._poll, self.committer.run)
            self._loops = [group.create_task(work(), name=work.__qualname__) for work in works]
            await stop.wait()
            self._end_loops()

    async def _entered(self, stop: asyncio.Event) -> bool:
        """False when told to stop before the database let us in."""
        entering, told = asyncio.ensure_future(self.lease.enter()), asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((entering, told), return_when=asyncio.FIRST_COMPLETED)
            if not entering.done():
                return False
            await entering
            return True
        finally:
            entering.cancel()
            told.cancel()

    async def drain(self) -> None:
        """Finish or hand back what is owned; another executor may take it at once."""
        if not self._loops:
            return
        await self.owner.drain(self._limits.drain)
        self._end_loops()  # before we retire: whoever finds itself declared dead begins anew
        await asyncio.wait(self._loops)
        await self.lease.retire()

    def _end_loops(self) -> None:
        for loop in self._loops:
            loop.cancel()

    async def _poll(self) -> None:
        """What bells forgot, and what only time brings."""
        while True:
            self._sooner.clear()
            try:
                await self._look()
            except store.TROUBLE as error:
                log.warning("executor.poll_failed", error=repr(error))
            await self._until_it_is_time()

    async def _until_it_is_time(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.poll):
                await self._sooner.wait()

    async def _look(self) -> None:
        if freed := await store.bury_expired_workers(self._pool):
            log.warning("executor.buried_others", runs_freed=freed)
        claimable, ordered = await store.what_waits(self._pool, self.lease.worker)
        if claimable or (self.owner.hungry and self.owner.free_slots() > 0):
            self._inbox.look_around()
        if ordered:
            self._inbox.orders_wait(ordered)
        self.owner.let_quiet_runs_go(self._limits.quiet)
