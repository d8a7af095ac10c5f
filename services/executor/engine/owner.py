"""What this process owns: its runs as of the last commit, the tasks that work on them, and what to look at next."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from services.executor.domain.facts import HandedBack, Succeeded, TimeIsUp, WeatherChanged
from services.executor.domain.run import Opened, is_current, is_parked, next_instant, rests
from services.executor.engine.change import Change, Held
from services.executor.engine.inbox import Inbox, Report
from services.executor.engine.runner import Work
from services.executor.engine.turn import Turn
from services.executor.engine.weather.gate import Doorman
from services.executor.engine.weather.ticket import Ticket

Perform = Callable[[Work], Awaitable[Report]]

#: runs claimed in one turn: whoever comes first must not take what others would begin at the same time
LARGEST_BITE = 32
TIMER_SLACK = 0.002  # seconds: our clock may run a little before the database's


class Appetite(NamedTuple):
    """How many runs to claim, and how long these must have waited."""

    runs: int
    waited: float


class Owner:
    """Only `take_over`, after a commit, changes what is held."""

    def __init__(
        self,
        inbox: Inbox,
        perform: Perform,
        lease_is_fresh: Callable[[], bool],
        doorman: Doorman,
        *,
        slots: int,
        most_runs: int,
        others_first: float,
    ) -> None:
        self.held: dict[UUID, Held] = {}
        self.hungry: dict[UUID, None] = {}  # runs that may have something to start, in turn
        self.wants_more = True  # there may be runs to claim
        self.draining = False
        self._inbox = inbox
        self.doorman = doorman
        self._perform = perform
        self._lease_is_fresh = lease_is_fresh
        self._slots = slots
        self._most_runs = most_runs
        self._others_first = others_first  # seconds that a run waits for somebody with a free slot
        self._working: set[asyncio.Task[None]] = set()
        self._instants: dict[UUID, datetime] = {}
        self._taken_over = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._database_ahead = 0.0  # seconds that the database's clock is ahead of the event loop's

    # what the committer asks

    def free_slots(self) -> int:
        return self._slots - len(self._working)

    def appetite(self, free: int) -> Appetite:
        """As many runs as slots are free. Without a free slot only what nobody else has taken for a while, and no more
        runs than slots: a wide run must not keep the others waiting for its end."""
        room = self._most_runs - len(self.held)
        if free > 0:
            return Appetite(max(0, min(free, room, LARGEST_BITE)), 0.0)
        active = sum(1 for run_id, held in self.held.items() if held.run.running or run_id in self.hungry)
        return Appetite(max(0, min(self._slots - active, room)), self._others_first)

    def may_start(self) -> bool:
        return not self.draining and self._lease_is_fresh()

    # what the committer tells

    def take_over(self, turn: Turn) -> None:
        """The turn is committed: it is the truth now, and what it started may begin."""
        self._database_ahead = turn.now.timestamp() - asyncio.get_running_loop().time()
        if turn.more_to_claim is not None:
            self.wants_more = turn.more_to_claim
        self.hungry = turn.hungry
        if turn.ordered_again:
            self._inbox.orders_wait(turn.ordered_again)
        for run_id, change in turn.changes.items():
            self._take_over_run(run_id, change, turn.now)
        if self.wants_more and self.may_start() and turn.free > 0 and len(self.held) < self._most_runs:
            self._inbox.look_around()
        self._arm()
        self._taken_over.set()

    def forget(self, run_id: UUID) -> None:
        if (held := self.held.pop(run_id, None)) is not None:
            self.hungry.pop(run_id, None)
            self._instants.pop(run_id, None)
            for task in held.tasks.values():
                task.cancel()

    def forget_everything(self) -> None:
        for run_id in list(self.held):
            self.forget(run_id)
        self.wants_more = True
        self._taken_over.set()

    # what time tells

    def let_quiet_runs_go(self, after: float) -> None:
        """Name the runs in which nothing has happened for `after` seconds and nothing can right now."""
        now = asyncio.get_running_loop().time()
        quiet = []
        for run_id, held in self.held.items():
            if not rests(held.run, self._database_now()):
                held.quiet_since = None
            elif held.quiet_since is None:
                held.quiet_since = now
            elif now - held.quiet_since >= after:
                quiet.append(run_id)
        if quiet:
            self._inbox.are_quiet(quiet)

    def look_at_the_parked(self) -> None:
        """The weather has changed."""
        parked = [run_id for run_id, held in self.held.items() if is_parked(held.run)]
        self._inbox.report(*(Report(run_id, WeatherChanged()) for run_id in parked))
        if self.hungry:
            self._inbox.look_around()

    async def drain(self, patience: float) -> None:
        """Start nothing more, let what runs finish for a while, then give every run away."""
        self.draining = True
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._next_turn()  # one that is under way may still start something
                while self._working:
                    await asyncio.wait(set(self._working))
        while self.held:
            self._inbox.report(*(Report(run_id, HandedBack()) for run_id in self.held))
            await self._next_turn()

    # inside

    async def _next_turn(self) -> None:
        """Until one is committed."""
        self._taken_over.clear()
        self._inbox.look_around()
        await self._taken_over.wait()

    def _take_over_run(self, run_id: UUID, change: Change, now: datetime) -> None:
        held = self.held.setdefault(run_id, Held(change.run, change.brief))
        held.run, held.quiet_since = change.run, None
        for key in change.draft.interrupted:
            if (task := held.tasks.pop(key, None)) is not None:
                task.cancel()
        if change.released:
            return self.forget(run_id)
        for opened in change.draft.opened:
            if is_current(change.run, opened.node.key, opened.number):
                self._begin(held, opened, change.tickets.get(opened.node.key))
        if (instant := next_instant(change.run, now)) is not None:
            self._instants[run_id] = instant
        else:
            self._instants.pop(run_id, None)
        return None

    def _begin(self, held: Held, opened: Opened, ticket: Ticket | None) -> None:
        key = opened.node.key
        if key in held.brief.walked:
            self._inbox.report(Report(held.run.id, Succeeded(key, opened.number)))
            return
        work = Work(held.run, held.brief, opened, self._lease_is_fresh, self._inbox.report, ticket)
        task = asyncio.create_task(self._work(held, work), name=f"node.{key}")
        if ticket is not None:
            self.doorman.let_in(ticket, task)
        held.tasks[key] = task
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    async def _work(self, held: Held, work: Work) -> None:
        report = await self._perform(work)
        held.tasks.pop(work.attempt.node.key, None)
        task = asyncio.current_task()
        assert task is not None
        self._working.discard(task)  # now, not a moment later: the turn that takes the report may use the slot
        self._inbox.report(report)

    def _database_now(self) -> datetime:
        return datetime.fromtimestamp(asyncio.get_running_loop().time() + self._database_ahead, UTC)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._instants:
            at = min(self._instants.values()).timestamp() - self._database_ahead + TIMER_SLACK
            self._timer = asyncio.get_running_loop().call_at(at, self._ring)

    def _ring(self) -> None:
        """Retries fell due, or a run's time is over: the committer sees which."""
        now = self._database_now()
        due = [run_id for run_id, instant in self._instants.items() if instant <= now]
        self._inbox.report(*(Report(run_id, TimeIsUp()) for run_id in due if run_id in self.held))
