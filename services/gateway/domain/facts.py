"""Which of the facts that came in may be told now, which wait for a predecessor, which are repeats?"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID

from contracts.envelope import Envelope
from contracts.errors import Code, Rejection
from contracts.subjects import IDENTIFIER, BadSubject, Subject, parse

Story = tuple[str, str]  # owner and story: the scope of `sequence`
OF_A_RUN, OF_A_TASK = frozenset({"run", "node"}), frozenset({"task", "plan"})  # entities whose story has the id of one
UNREADABLE = "unreadable"  # the one member of a tombstone's message


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
        (company, owner, level), story = _address(subject)
        text = body.decode()
        told = json.loads(text)
    except (BadSubject, ValueError, RecursionError) as error:
        raise Rejection(Code.INVALID, f"this is no fact: {error}") from error
    if not isinstance(told, dict) or envelope.sequence < 1:
        raise Rejection(Code.INVALID, "a fact is a JSON object with a ce-sequence from 1")
    return Fact(
        message_id=envelope.id,
        company_id=company,
        owner=owner,
        story=story,
        sequence=envelope.sequence,
        level=level,
        run_id=_id(told.get("run_id")),
        node_id=_id(told.get("node_id")),
        task_id=_id(told.get("task_id")),
        request_id=envelope.request_id,
        message=text,
        at=envelope.time,
    )


def _address(subject: str) -> tuple[tuple[str, str, str], str]:
    """Company, owner and level, which are the same for thousands of facts, and the story."""
    stem, _, story = subject.rpartition(".")
    if not IDENTIFIER.fullmatch(story):
        parse(subject)  # says what is wrong
    return _stem(stem), story


@lru_cache(maxsize=4096)
def _stem(stem: str) -> tuple[str, str, str]:
    address = parse(f"{stem}.story")
    return address.company, address.owner, level_of(address)


def place_of(subject: str, headers: Mapping[str, str], reason: str, message_id: UUID) -> Fact | None:
    """The tombstone of a fact that could not be read. None when not even its place in a story is known."""
    try:
        address, envelope = parse(subject), Envelope.from_headers(headers)
    except (BadSubject, Rejection):
        return None
    if envelope.sequence < 1:
        return None
    fact = Fact(
        message_id=message_id,
        company_id=address.company,
        owner=address.owner,
        story=address.id,
        sequence=envelope.sequence,
        level=level_of(address),
        run_id=_id(address.id) if address.entity in OF_A_RUN else None,
        node_id=None,
        task_id=_id(address.id) if address.entity in OF_A_TASK else None,
        request_id=envelope.request_id,
        message="",
        at=envelope.time,
    )
    return tombstone(fact, reason, message_id)


def tombstone(fact: Fact, reason: str, message_id: UUID) -> Fact:
    """Keeps the place of a fact that could not be read or stored, so that its successors need not wait for ever."""
    said = "".join(ch if ch.isprintable() else " " for ch in reason)[:500]
    request_id = fact.request_id if fact.request_id.isprintable() else ""
    return fact._replace(message_id=message_id, request_id=request_id, message=json.dumps({UNREADABLE: said}))


def _id(value: object) -> UUID | None:
    try:
        return UUID(value) if isinstance(value, str) else None
    except ValueError:
        return None
