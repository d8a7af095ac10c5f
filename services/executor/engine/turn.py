"""What one transaction changes: worked out in memory from the owned runs, written in bulk, applied after the commit."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from chassis.outbox import Batch as OutboxBatch
from contracts.executor import NodeStatus
from contracts.message import Event
from services.executor.domain.advance import advance
from services.executor.domain.facts import (
    NO_EFFORT,
    Claimed,
    Fact,
    Failed,
    HandedBack,
    Parked,
    Spent,
    Started,
    Succeeded,
    TimeIsUp,
    WeatherChanged,
)
from services.executor.domain.run import (
    AttemptStatus,
    Closed,
    Node,
    Opened,
    Overridden,
    Run,
    Step,
    is_current,
    is_parked,
    next_instant,
    startable,
)
from services.executor.domain.status import RUN_FINAL
from services.executor.engine import signals
from services.executor.engine.claims import Brief
from services.executor.engine.inbox import Batch, Report
from services.executor.engine.store import Fence, Order, Sidecar, numbered
from services.executor.engine.weather.gate import Full, Gate, Shut
from services.executor.engine.weather.ticket import Ticket


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
    requeued: list[str] = field(default_factory=list)
    overridden: list[Overridden] = field(default_factory=list)
    tickets: dict[str, Ticket] = field(default_factory=dict)  # in bad weather, of nodes that start
    late: list[Closed] = field(default_factory=list)  # what was paid for attempts that had been cut off already
    ordered: bool = False
    released: bool = False
    wake_at: datetime | None = None  # when it is released: who looks at it next, and when

    def nodes(self) -> Iterable[Node]:
        return (self.run.nodes[key] for key in self.moved)

    def is_plain(self) -> bool:
        """Whether its nodes, attempts, run and messages are all there is to write."""
        return not (self.late or self.requeued or self.overridden or any(node.parked_on for node in self.nodes()))

    def touches_the_run(self) -> bool:
        """Whether the run's own row is to be written."""
        old, new = self.before, self.run
        return (
            self.released
            or self.ordered
            or old.status is not new.status
            or old.pause_reasons != new.pause_reasons
            or (old.deadline, old.time_left) != (new.deadline, new.time_left)
        )


class Turn:
    """`free` counts the slots for model calls that are left; `gate` says in bad weather who may have one."""

    def __init__(self, held: Mapping[UUID, Held], fence: Fence, free: int, gate: Gate | None) -> None:
        self.gate = gate
        self.now = fence.now
        self.number = fence.turn
        self.free = free
        self.changes: dict[UUID, Change] = {}
        self.hungry: dict[UUID, None] = {}
        self.sidecars: list[Sidecar] = []
        self.told: list[OutboxBatch] = []  # written, to be published after the commit
        self.ordered_again: set[UUID] = set()
        self.more_to_claim: bool | None = None  # None: not asked
        self._held = held

    def is_plain(self) -> bool:
        """Whether `store.Moves` and the messages are all there is to write."""
        return not self.sidecars and all(change.is_plain() for change in self.changes.values())

    def owns(self, run_id: UUID) -> bool:
        return run_id in self.changes or run_id in self._held

    def apply(self, run_id: UUID, fact: Fact) -> Step:
        change = self._change(run_id)
        step = advance(change.run, fact, self.now)
        change.run = step.run
        change.messages += step.messages
        change.moved |= dict.fromkeys(step.moved)
        change.opened += step.opened
        change.closed += step.closed
        change.interrupted += step.interrupted
        change.requeued += step.requeued
        change.overridden += step.overridden
        self.hungry[run_id] = None
        return step

    def take_in(self, report: Report) -> None:
        """Reports about runs that were given away meanwhile are void: their attempts are somebody else's now."""
        if not self.owns(report.run_id):
            return
        fact = report.fact
        if isinstance(fact, Succeeded | Failed):
            self._book(report, fact)
        self.apply(report.run_id, fact)
        if isinstance(fact, HandedBack):
            self._release(report.run_id, self.now)

    def _book(self, report: Report, fact: Succeeded | Failed) -> None:
        """Whatever becomes of an attempt, its calls are accounted for."""
        change = self._change(report.run_id)
        node = change.run.graph.plans[fact.key]
        if report.sidecars:
            self.sidecars += numbered(report.run_id, node.id, fact.attempt, report.sidecars)
        if fact.effort.spend.requests and not is_current(change.run, fact.key, fact.attempt):
            change.late.append(Closed(node, fact.attempt, AttemptStatus.CANCELED, effort=fact.effort))
            self.apply(report.run_id, Spent(fact.effort.spend))

    def obey(self, orders: Collection[Order]) -> None:
        """One order for each run and turn: the rows of a run and its nodes make one legal move in a transaction."""
        for order in orders:
            step = self.apply(order.run_id, signals.read(order.kind, order.payload))
            change = self._change(order.run_id)
            change.ordered = True
            if order.more or any(_starts_over(change, key) for key in step.moved):
                self.ordered_again.add(order.run_id)

    def adopt(self, run: Run, brief: Brief) -> None:
        self.changes[run.id] = Change(brief, run, run)
        self.apply(run.id, Claimed())
        if is_parked(run):
            self.apply(run.id, WeatherChanged())  # while nobody held it, perhaps

    def callers(self, runs: Iterable[UUID]) -> dict[UUID, Sequence[str]]:
        """The runs among these in which something may start, with the nodes that are ready."""
        found = [run_id for run_id in dict.fromkeys(runs) if self.owns(run_id) and run_id not in self.ordered_again]
        return {run_id: self._run(run_id).ready for run_id in found if startable(self._run(run_id), self.now)}

    def start_ready(self, runs: Iterable[UUID]) -> None:
        """Round robin: one node of each run that has something to start, until nothing is left or no slot is free."""
        owned = [run_id for run_id in dict.fromkeys(runs) if self.owns(run_id)]
        queue = deque(run_id for run_id in owned if run_id not in self.ordered_again)
        self.hungry = {run_id: None for run_id in owned if run_id in self.ordered_again}
        full: dict[UUID, set[str]] = {}  # nodes for which there is no room right now
        while queue:
            run_id = queue.popleft()
            key = startable(self._run(run_id), self.now, full.get(run_id, ()))
            if key is None:
                continue
            if key not in self._brief(run_id).walked:
                if self.free <= 0:
                    self.hungry[run_id] = None
                    continue
                if self.gate is not None and not self._let_in(self.gate, run_id, key, full):
                    queue.append(run_id)
                    continue
                self.free -= 1
            self.apply(run_id, Started(key))
            del self.hungry[run_id]
            queue.append(run_id)
        self.hungry |= dict.fromkeys(full)

    def _let_in(self, gate: Gate, run_id: UUID, key: str, full: dict[UUID, set[str]]) -> bool:
        ruling = gate.rule(run_id, key)
        if isinstance(ruling, Shut):
            self.apply(run_id, Parked(key, ruling.on.provider, ruling.on.model, ruling.until, ruling.reason))
            del self.hungry[run_id]
            return False
        if isinstance(ruling, Full):
            full.setdefault(run_id, set()).add(key)
            return False
        if ruling is not None:
            self._change(run_id).tickets[key] = ruling
        return True

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


def _starts_over(change: Change, key: str) -> bool:
    """It may start with the next turn: from where it was no move leads to running."""
    before = change.before.nodes[key].status
    return change.run.nodes[key].status is NodeStatus.QUEUED and before not in (NodeStatus.QUEUED, NodeStatus.RUNNING)


def is_plain(batch: Batch) -> bool:
    """Whether it brings nothing but results without an output or an effort: those are written by statements of their own."""
    return not (batch.ordered or batch.claim or batch.only) and all(_is_bare(report) for report in batch.reports)


def _is_bare(report: Report) -> bool:
    fact = report.fact
    if isinstance(fact, Succeeded):
        return not report.sidecars and fact.output is None and fact.effort is NO_EFFORT
    return isinstance(fact, TimeIsUp)
