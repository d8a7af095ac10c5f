"""What one transaction changes: worked out in memory from the owned runs, written in bulk, applied after the commit."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from chassis.context import Context
from chassis.outbox import Batch as OutboxBatch
from chassis.outbox import Staged
from contracts.executor import NodeStatus
from contracts.message import Message
from services.executor.domain.budget import Wait
from services.executor.domain.facts import (
    Claimed,
    Fact,
    Failed,
    HandedBack,
    Parked,
    Spent,
    Started,
    Succeeded,
    Unfunded,
    WeatherChanged,
)
from services.executor.domain.run import (
    AttemptStatus,
    Closed,
    Course,
    Run,
    is_current,
    is_parked,
    next_instant,
    rests,
    startable,
)
from services.executor.domain.status import RUN_FINAL
from services.executor.engine import signals
from services.executor.engine.at_once.store import Moves
from services.executor.engine.change import Change, Held
from services.executor.engine.claims import Brief
from services.executor.engine.inbox import Report
from services.executor.engine.store import Fence, Order, Sidecar, numbered
from services.executor.engine.weather.gate import Full, Gate, Shut


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
        self.waits: list[Wait] = []  # for money
        self.void: list[Report] = []  # of runs that are not ours any more, with calls that were paid for
        self.told: list[OutboxBatch] = []  # written, to be published after the commit
        self.ordered_again: set[UUID] = set()
        self.more_to_claim: bool | None = None  # None: not asked
        self._held = held

    def is_plain(self) -> bool:
        """Whether `Moves` and the messages are all there is to write."""
        return not (self.sidecars or self.waits) and all(change.is_plain() for change in self.changes.values())

    def moves(self) -> Moves:
        changes = list(self.changes.values())
        return Moves(
            nodes=[node for c in changes for node in c.nodes()],
            opened=[(c.before, opened) for c in changes for opened in c.draft.opened if not c.walks(opened.node)],
            closed=[closed for c in changes for closed in c.draft.closed if not c.walks(closed.node)],
            walked=[(c.before, closed) for c in changes for closed in c.walked()],
            runs=[(c.run, c.released, c.wake_at) for c in changes if c.touches_the_run()],
        )

    def messages(self) -> list[tuple[Message | Staged, Context]]:
        return [
            (message, change.brief.context) for change in self.changes.values() for message in change.draft.messages
        ]

    def owns(self, run_id: UUID) -> bool:
        return run_id in self.changes or run_id in self._held

    def apply(self, run_id: UUID, fact: Fact) -> list[str]:
        """The keys of nodes that moved."""
        self.hungry[run_id] = None
        return self._change(run_id).apply(fact)

    def take_in(self, report: Report) -> None:
        """Reports about runs that have ended or were given away meanwhile are void: their attempts are nobody's, or
        somebody else's."""
        if not self.owns(report.run_id):
            self.void += [report] if report.sidecars else []
            return
        fact = report.fact
        if isinstance(fact, Succeeded | Failed | Unfunded):
            self._book(report, fact)
        self.apply(report.run_id, fact)
        if isinstance(fact, HandedBack):
            self._release(report.run_id, self.now)

    def _book(self, report: Report, fact: Succeeded | Failed | Unfunded) -> None:
        """Whatever becomes of an attempt, its calls are accounted for."""
        change = self._change(report.run_id)
        node = change.before.graph.plans[fact.key]
        if report.sidecars:
            self.sidecars += numbered(report.run_id, node.id, fact.attempt, report.sidecars)
        if fact.effort.spend.requests and not is_current(change.draft, fact.key, fact.attempt):
            change.late.append(Closed(node, fact.attempt, AttemptStatus.CANCELED, effort=fact.effort))
            self.apply(report.run_id, Spent(fact.effort.spend))
        if isinstance(fact, Unfunded) and is_current(change.draft, fact.key, fact.attempt):
            self.waits.append(Wait(node.id, report.run_id, change.before.company, fact.shortage))

    def obey(self, orders: Collection[Order]) -> None:
        """One order for each run and turn: the rows of a run and its nodes make one legal move in a transaction. Of verdicts
        there may be many: wherever a number of them leads, one move leads there as well."""
        for order in orders:
            moved = self.apply(order.run_id, signals.read(order.kind, order.payload))
            change = self._change(order.run_id)
            change.ordered = True
            if order.more or any(_starts_over(change, key) for key in moved):
                self.ordered_again.add(order.run_id)

    def adopt(self, run: Run, brief: Brief) -> None:
        self.changes[run.id] = Change(brief, run, self.now)
        self.apply(run.id, Claimed())
        if is_parked(run):
            self.apply(run.id, WeatherChanged())  # while nobody held it, perhaps

    def callers(self, runs: Iterable[UUID]) -> dict[UUID, Sequence[str]]:
        """The runs among these in which something may start, with the nodes that are ready."""
        found = [run_id for run_id in dict.fromkeys(runs) if self.owns(run_id) and run_id not in self.ordered_again]
        return {run_id: [*self._course(run_id).ready] for run_id in found if startable(self._course(run_id), self.now)}

    def start_ready(self, runs: Iterable[UUID]) -> None:
        """Round robin: one node of each run that has something to start, until nothing is left or no slot is free."""
        owned = [run_id for run_id in dict.fromkeys(runs) if self.owns(run_id)]
        queue = deque(run_id for run_id in owned if run_id not in self.ordered_again)
        self.hungry = {run_id: None for run_id in owned if run_id in self.ordered_again}
        full: dict[UUID, set[str]] = {}  # nodes for which there is no room right now
        while queue:
            run_id = queue.popleft()
            key = startable(self._course(run_id), self.now, full.get(run_id, ()))
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
            if change.draft.status in RUN_FINAL and run_id not in self.ordered_again and not change.released:
                self._release(run_id, None)
        for run_id in quiet:
            if run_id in self._held and run_id not in self.changes and rests(self._held[run_id].run, self.now):
                self._release(run_id, next_instant(self._held[run_id].run, self.now))

    def _release(self, run_id: UUID, wake_at: datetime | None) -> None:
        change = self._change(run_id)
        change.released, change.wake_at = True, wake_at
        self.hungry.pop(run_id, None)

    def _change(self, run_id: UUID) -> Change:
        if run_id not in self.changes:
            held = self._held[run_id]
            self.changes[run_id] = Change(held.brief, held.run, self.now)
        return self.changes[run_id]

    def _course(self, run_id: UUID) -> Course:
        return self.changes[run_id].draft if run_id in self.changes else self._held[run_id].run

    def _brief(self, run_id: UUID) -> Brief:
        return self.changes[run_id].brief if run_id in self.changes else self._held[run_id].brief


def _starts_over(change: Change, key: str) -> bool:
    """It may start with the next turn: from where it was no move leads to running."""
    before = change.before.nodes[key].status
    return change.draft.nodes[key].status is NodeStatus.QUEUED and before not in (NodeStatus.QUEUED, NodeStatus.RUNNING)
