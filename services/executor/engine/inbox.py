"""What arrived for the committer since its last transaction: results, bells, wishes. Natural batching happens here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg

from services.executor.domain.facts import NO_EFFORT, Fact, Succeeded, TimeIsUp
from services.executor.domain.graph import Plan

#: facts in one transaction; more wait for the next, so that none takes long
LARGEST_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Report:
    """A fact about a run, with the sidecars of the model calls behind it, in their order, and whose attempt made them."""

    run_id: UUID
    fact: Fact
    sidecars: tuple[dict[str, Any], ...] = ()
    node: Plan | None = None


class Newcomer(NamedTuple):
    """A run that was committed in this process a moment ago: its rows, as long as nobody has touched it since."""

    row: asyncpg.Record
    nodes: Sequence[asyncpg.Record]

    @property
    def id(self) -> UUID:
        run_id: UUID = self.row["id"]
        return run_id


@dataclass(slots=True)
class Batch:
    """The input of one turn. `ordered` runs have orders on the table; `quiet` ones may be given away, `new` ones
    may be claimed.

    A turn looks at other runs as well, which may start something or be claimed; after a refusal, at none but `only`.
    """

    reports: list[Report] = field(default_factory=list)
    ordered: set[UUID] = field(default_factory=set)
    quiet: set[UUID] = field(default_factory=set)
    claim: bool = False
    new: list[Newcomer] = field(default_factory=list)
    only: frozenset[UUID] | None = None

    def runs(self) -> dict[UUID, None]:
        told = [report.run_id for report in self.reports] + [run.id for run in self.new]
        return dict.fromkeys([*told, *self.ordered, *self.quiet])

    def concerns(self, run_id: UUID) -> bool:
        return self.only is None or run_id in self.only

    def among(self, runs: Iterable[UUID]) -> Batch:
        """What there is to do for these runs, which may also be claimed."""
        only = frozenset(runs)
        reports = [report for report in self.reports if report.run_id in only]
        return Batch(reports, self.ordered & only, self.quiet & only, True, only=only)

    def parts(self) -> list[Batch]:
        """Smaller batches of the same run, or nothing when its reports cannot be divided."""
        if not self.reports:
            return []
        rest = Batch([], self.ordered, self.quiet, self.claim or bool(self.new), only=self.only)
        middle = len(self.reports) // 2
        halves = [Batch(half, only=self.only) for half in (self.reports[:middle], self.reports[middle:]) if half]
        return [*halves, rest] if len(halves) > 1 or rest else []

    def __bool__(self) -> bool:
        return bool(self.reports or self.ordered or self.quiet or self.claim or self.new)


class Inbox:
    """Everybody puts in, the committer takes out."""

    def __init__(self) -> None:
        self._batch = Batch()
        self._arrived = asyncio.Event()

    def report(self, *reports: Report) -> None:
        self._batch.reports.extend(reports)
        self._arrived.set()

    def orders_wait(self, runs: Iterable[UUID]) -> None:
        self._batch.ordered.update(runs)
        self._arrived.set()

    def are_quiet(self, runs: Iterable[UUID]) -> None:
        self._batch.quiet.update(runs)
        self._arrived.set()

    def look_around(self) -> None:
        """There may be something to claim, or our lease may be gone: have a turn."""
        self._batch.claim = True
        self._arrived.set()

    def welcome(self, run: Newcomer) -> None:
        self._batch.new.append(run)
        self._arrived.set()

    async def take(self) -> Batch:
        """Everything there is, as soon as there is something."""
        await self._arrived.wait()
        batch = self._batch
        self._batch = Batch(batch.reports[LARGEST_BATCH:])
        del batch.reports[LARGEST_BATCH:]
        if not self._batch:
            self._arrived.clear()
        return batch


def is_plain(batch: Batch) -> bool:
    """Whether it brings nothing but results without an output or an effort: those are written by statements of their own."""
    return not (batch.ordered or batch.claim or batch.only) and all(_is_bare(report) for report in batch.reports)


def _is_bare(report: Report) -> bool:
    fact = report.fact
    if isinstance(fact, Succeeded):
        return not report.sidecars and fact.output is None and fact.effort is NO_EFFORT
    return isinstance(fact, TimeIsUp)
