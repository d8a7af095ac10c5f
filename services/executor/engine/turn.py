"""What one transaction changes: worked out in memory from the owned runs, written in bulk, applied after the commit."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from chassis.outbox import OutboxRow
from contracts.executor import RunAction
from contracts.message import Event
from services.executor.domain.advance import advance
from services.executor.domain.facts import Asked, Claimed, Fact, Failed, HandedBack, Started, Succeeded
from services.executor.domain.run import Closed, Node, Opened, Run, next_instant, startable
from services.executor.domain.status import RUN_FINAL
from services.executor.engine.claims import Brief
from services.executor.engine.inbox import Report
from services.executor.engine.store import Fence, Order


@dataclass(slots=True)
class Held:
    """A run this process owns, as of the last commit, and the tasks that work on its nodes."""

    run: Run
    brief: Brief
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    quiet_since: float | None = None  # on the event loop's clock


@dataclass(slots=True)
class Change:
    """One run in this turn."""

    brief: Brief
    before: Run
    run: Run
    messages: list[Event] = field(default_factory=list)
    moved: dict[str, None] = field(default_factory=dict)
    opened: list[Opened] = field(default_factory=list)
    closed: list[Closed] = field(default_factory=list)
    interrupted: list[str] = field(default_factory=list)
    released: bool = False
    wake_at: datetime | None = None  # when it is released: who looks at it next, and when

    def nodes(self) -> Iterable[Node]:
        return (self.run.nodes[key] for key in self.moved)

    def touches_the_run(self) -> bool:
        """Whether the run's own row is to be written."""
        old, new = self.before, self.run
        return (
            self.released
            or old.status is not new.status
            or old.pause_reasons != new.pause_reasons
            or (old.deadline, old.time_left) != (new.deadline, new.time_left)
        )


class Turn:
    """`free` counts the slots for model calls that are left."""

    def __init__(self, held: Mapping[UUID, Held], fence: Fence, free: int) -> None:
        self.now = fence.now
        self.number = fence.turn
        self.free = free
        self.changes: dict[UUID, Change] = {}
        self.hungry: dict[UUID, None] = {}
        self.sidecars: list[tuple[UUID, UUID, int, dict[str, Any]]] = []
        self.rows: list[OutboxRow] = []  # written, to be published after the commit
        self.ordered_again: set[UUID] = set()
        self.more_to_claim: bool | None = None  # None: not asked
        self._held = held

    def owns(self, run_id: UUID) -> bool:
        return run_id in self.changes or run_id in self._held

    def apply(self, run_id: UUID, fact: Fact) -> None:
        change = self._change(run_id)
        step = advance(change.run, fact, self.now)
        change.run = step.run
        change.messages += step.messages
        change.moved |= dict.fromkeys(step.moved)
        change.opened += step.opened
        change.closed += step.closed
        change.interrupted += step.interrupted
        self.hungry[run_id] = None

    def take_in(self, report: Report) -> None:
        """Reports about runs that were given away meanwhile are void: their attempts are somebody else's now."""
        if not self.owns(report.run_id):
            return
        fact = report.fact
        self.apply(report.run_id, fact)
        if report.sidecar is not None and isinstance(fact, Succeeded | Failed):
            node = self._change(report.run_id).run.graph.plans[fact.key].id
            self.sidecars.append((report.run_id, node, fact.attempt, report.sidecar))
        if isinstance(fact, HandedBack):
            self._release(report.run_id, self.now)

    def obey(self, orders: Collection[Order]) -> None:
        """One order for each run and turn: the row of a run makes one legal move in a transaction."""
        for order in orders:
            self.apply(order.run_id, Asked(RunAction(order.kind)))
            if order.more:
                self.ordered_again.add(order.run_id)

    def adopt(self, run: Run, brief: Brief) -> None:
        self.changes[run.id] = Change(brief, run, run)
        self.apply(run.id, Claimed())

    def start_ready(self, runs: Iterable[UUID]) -> None:
        """Round robin: one node of each run that has something to start, until nothing is left or no slot is free."""
        queue = deque(run_id for run_id in dict.fromkeys(runs) if self.owns(run_id))
        self.hungry = {}
        while queue:
            run_id = queue.popleft()
            key = None if run_id in self.ordered_again else startable(self._run(run_id), self.now)
            if key is None:
                continue
            if key not in self._brief(run_id).walked:
                if self.free <= 0:
                    self.hungry[run_id] = None
                    continue
                self.free -= 1
            self.apply(run_id, Started(key))
            del self.hungry[run_id]
            queue.append(run_id)

    def let_go(self, quiet: Iterable[UUID]) -> None:
        """Give away what is over, and those of `quiet` in which still nothing happens."""
        for run_id, change in list(self.changes.items()):
            if change.run.status in RUN_FINAL and run_id not in self.ordered_again and not change.released:
                self._release(run_id, None)
        for run_id in quiet:
            if run_id in self._held and run_id not in self.changes and not self._held[run_id].run.running:
                self._release(run_id, next_instant(self._held[run_id].run, self.now))

    def _release(self, run_id: UUID, wake_at: datetime | None) -> None:
        change = self._change(run_id)
        change.released, change.wake_at = True, wake_at
        self.hungry.pop(run_id, None)

    def _change(self, run_id: UUID) -> Change:
        if run_id not in self.changes:
            held = self._held[run_id]
            self.changes[run_id] = Change(held.brief, held.run, held.run)
        return self.changes[run_id]

    def _run(self, run_id: UUID) -> Run:
        return self.changes[run_id].run if run_id in self.changes else self._held[run_id].run

    def _brief(self, run_id: UUID) -> Brief:
        return self.changes[run_id].brief if run_id in self.changes else self._held[run_id].brief
