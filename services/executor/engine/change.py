"""One run in a turn: what it was, what becomes of it, and what of that is to be written."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from services.executor.domain.advance import apply
from services.executor.domain.draft import Draft
from services.executor.domain.facts import Fact
from services.executor.domain.graph import Plan
from services.executor.domain.run import AttemptStatus, Closed, Node, Run
from services.executor.engine.claims import Brief
from services.executor.engine.weather.ticket import Ticket


@dataclass(slots=True)
class Held:
    """A run this process owns, as of the last commit, and the tasks that work on its nodes."""

    run: Run
    brief: Brief
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    quiet_since: float | None = None  # on the event loop's clock


class Change:
    """`draft` has what became of the run, and what is told."""

    def __init__(self, brief: Brief, before: Run, now: datetime) -> None:
        self.brief = brief
        self.before = before
        self.draft = Draft(before, now)
        self.tickets: dict[str, Ticket] = {}  # in bad weather, of nodes that start
        self.late: list[Closed] = []  # what was paid for attempts that had been cut off already
        self.ordered = False
        self.released = False
        self.fresh = False  # claimed by this turn's own statement
        self.wake_at: datetime | None = None  # when it is released: who looks at it next, and when
        self._run: Run | None = before

    @property
    def run(self) -> Run:
        if self._run is None:
            self._run = self.draft.outcome()
        return self._run

    def apply(self, fact: Fact) -> list[str]:
        """The keys of nodes that moved."""
        before = len(self.draft.moved)
        apply(self.draft, fact)
        self._run = None
        return self.draft.moved[before:]

    def walks(self, node: Plan) -> bool:
        """Nobody works on it."""
        return node.key in self.brief.walked

    def walked(self) -> Iterable[Closed]:
        """Who had begun one that is lost is not known any more."""
        return (c for c in self.draft.closed if self.walks(c.node) and c.status is not AttemptStatus.LOST)

    def nodes(self) -> Iterable[Node]:
        return (self.draft.nodes[key] for key in dict.fromkeys(self.draft.moved))

    def is_plain(self) -> bool:
        """Whether its nodes, attempts, run and messages are all there is to write."""
        draft = self.draft
        special = self.late or draft.requeued or draft.overridden or draft.judged or draft.guided or draft.incomplete
        return not (special or any(node.parked_on for node in self.nodes()))

    def touches_the_run(self) -> bool:
        """Whether the run's own row is to be written."""
        old, new = self.before, self.draft.run
        return (
            self.released
            or self.ordered
            or self.fresh
            or old.status is not new.status
            or old.pause_reasons != new.pause_reasons
            or (old.deadline, old.time_left) != (new.deadline, new.time_left)
        )
