"""Which of the facts that came in may be told now, which wait for a predecessor, which are repeats?"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from contracts.envelope import Envelope
from contracts.errors import Code, Rejection
from contracts.subjects import BadSubject, Subject, parse

Story = tuple[str, str]  # owner and story: the scope of `sequence`


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact as the timeline keeps it. `message` is its body as JSON text."""

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
        told = result.last.get(fact.of, last.get(fact.of, 0))
        if fact.sequence <= told:
            continue
        waiting = early.setdefault(fact.of, {})
        waiting.setdefault(fact.sequence, fact)
        while (following := waiting.pop(told + 1, None)) is not None:
            result.told.append(following)
            told += 1
            result.last[fact.of] = told
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


def read_fact(subject: str, envelope: Envelope, body: bytes) -> Fact:
    """A message of the bus as a fact of the timeline. Raises Rejection when it is none.

    Types are not looked up: a newer service may tell what this gateway has never heard of.
    """
    try:
        address = parse(subject)
        told = json.loads(body)
    except (BadSubject, ValueError) as error:
        raise Rejection(Code.INVALID, f"this is no fact: {error}") from error
    if not isinstance(told, dict) or envelope.sequence < 1:
        raise Rejection(Code.INVALID, "a fact is a JSON object with a ce-sequence from 1")
    return Fact(
        message_id=envelope.id,
        company_id=address.company,
        owner=address.owner,
        story=address.id,
        sequence=envelope.sequence,
        level=level_of(address),
        run_id=_id(told.get("run_id")),
        node_id=_id(told.get("node_id")),
        task_id=_id(told.get("task_id")),
        request_id=envelope.request_id,
        message=json.dumps(told, ensure_ascii=False, separators=(",", ":")),
        at=envelope.time,
    )


def tombstone(fact: Fact, reason: str, message_id: UUID) -> Fact:
    """Keeps the place of a fact that could not be stored, so that its successors need not wait for ever."""
    return replace(fact, message_id=message_id, message=json.dumps({"unreadable": reason}))


def _id(value: object) -> UUID | None:
    try:
        return UUID(value) if isinstance(value, str) else None
    except ValueError:
        return None
