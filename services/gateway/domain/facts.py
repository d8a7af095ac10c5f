"""Which of the facts that came in may be told now, which wait for a predecessor, which are repeats?"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from contracts.subjects import Subject

Story = tuple[str, str]  # owner and story: the scope of `sequence`
OF_A_RUN = frozenset({"run", "node", "feedback", "verdict"})  # entities whose story has the id of a run
OF_A_TASK = frozenset({"task", "plan"})
UNREADABLE = "unreadable"  # the one member of a tombstone's message
TOMBSTONE = f'{{"{UNREADABLE}": '  # what the text of such a message begins with


class Fact(NamedTuple):
    """A fact as the timeline keeps it, in the order of its columns. `message` is its body as JSON text."""

    message_id: UUID
    company_id: str
    owner: str
    story: str
    sequence: int
    level: str
    run_id: UUID | None
    node_id: UUID | None
    task_id: UUID | None
    request_id: str
    message: str
    at: datetime

    @property
    def of(self) -> Story:
        return self.owner, self.story


@dataclass(slots=True)
class Sorted:
    """`told` in the order of telling; `last` holds the new sequence of every story that moved."""

    told: list[Fact] = field(default_factory=list)
    parked: list[Fact] = field(default_factory=list)
    last: dict[Story, int] = field(default_factory=dict)


def sort_out(arrived: Iterable[Fact], last: Mapping[Story, int]) -> Sorted:
    """Tell each story in its own order, whatever the order of arrival, and nothing twice.

    `last` says how far each story has been told; stories it does not know begin at 1.
    """
    result = Sorted()
    early: dict[Story, dict[int, Fact]] = {}
    for fact in arrived:
        story = fact.of
        told = result.last.get(story, last.get(story, 0))
        if fact.sequence <= told:
            continue
        waiting = early.setdefault(story, {})
        waiting.setdefault(fact.sequence, fact)
        while (following := waiting.pop(told + 1, None)) is not None:
            result.told.append(following)
            told += 1
            result.last[story] = told
    result.parked = [fact for waiting in early.values() for fact in waiting.values()]
    return result


def skipped_over(told: int, gone: Iterable[int]) -> int:
    """How far a story counts as told when its owner no longer holds the facts `gone`."""
    missing = set(gone)
    while told + 1 in missing:
        told += 1
    return told


def level_of(subject: Subject) -> str:
    """`evt.acme.executor.node.completed.<id>` is a NODE_COMPLETED."""
    return f"{subject.entity}_{subject.verb}".upper()


def tombstone(fact: Fact, reason: str, message_id: UUID) -> Fact:
    """Keeps the place of a fact that could not be read or stored, so that its successors need not wait for ever."""
    said = "".join(ch if ch.isprintable() else " " for ch in reason)[:500]
    request_id = fact.request_id if fact.request_id.isprintable() else ""
    return fact._replace(message_id=message_id, request_id=request_id, message=json.dumps({UNREADABLE: said}))
