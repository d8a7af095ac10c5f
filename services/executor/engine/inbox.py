"""What arrived for the committer since its last transaction: results, bells, wishes. Natural batching happens here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from services.executor.domain.facts import Fact

#: facts in one transaction; more wait for the next, so that none takes long
LARGEST_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Report:
    """A fact about a run, with the sidecars of the model calls behind it, in their order."""

    run_id: UUID
    fact: Fact
    sidecars: tuple[dict[str, Any], ...] = ()


@dataclass(slots=True)
class Batch:
    """The input of one turn. `ordered` runs have orders on the table; `quiet` ones may be given away."""

    reports: list[Report] = field(default_factory=list)
    ordered: set[UUID] = field(default_factory=set)
    quiet: set[UUID] = field(default_factory=set)
    claim: bool = False

    def parts(self) -> list[Batch]:
        """Two smaller batches, or nothing when this is as small as it gets."""
        rest = Batch([], self.ordered, self.quiet, self.claim)
        if len(self.reports) > 1:
            middle = len(self.reports) // 2
            return [Batch(self.reports[:middle]), Batch(self.reports[middle:]), *([rest] if rest else [])]
        return [Batch(self.reports), rest] if self.reports and rest else []

    def __bool__(self) -> bool:
        return bool(self.reports or self.ordered or self.quiet or self.claim)


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

    async def take(self) -> Batch:
        """Everything there is, as soon as there is something."""
        await self._arrived.wait()
        batch = self._batch
        self._batch = Batch(batch.reports[LARGEST_BATCH:])
        del batch.reports[LARGEST_BATCH:]
        if not self._batch:
            self._arrived.clear()
        return batch
