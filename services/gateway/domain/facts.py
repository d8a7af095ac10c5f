"""Which of the facts that came in may be told now, which wait for a predecessor, which are repeats?"""

from __future__ import annotations

import json
import re
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
OF_A_RUN = frozenset({"run", "node", "feedback", "verdict"})  # entities whose story has the id of a run
OF_A_TASK = frozenset({"task", "plan"})
UNREADABLE = "unreadable"  # the one member of a tombstone's message


#: of the header lines of a fact as our services write them
LINE = re.compile(rb"\r\n(ce-id|ce-sequence|ce-time|ce-type|ce-source|ce-subject|x-request-id|x-claim): ([^\r\n]*)")
PLAIN = {b"ce-id", b"ce-sequence", b"ce-time", b"ce-type", b"ce-source", b"ce-subject"}


class Stamp(NamedTuple):
    """What the timeline keeps of an envelope."""

    id: UUID
    sequence: int
    time: datetime
    request_id: str

    @classmethod
    def of(cls, envelope: Envelope) -> Stamp:
        return cls(envelope.id, envelope.sequence, envelope.time, envelope.request_id)

    @classmethod
    def at_once(cls, head: bytes) -> Stamp | None:
        """From header lines without any oddity, in a third of the time. None: only an Envelope can say what is in them."""
        lines = dict(LINE.findall(head))
        if not lines.keys() >= PLAIN or b"x-claim" in lines or not lines[b"ce-sequence"].isdigit():
            return None
        try:
            time = datetime.fromisoformat(lines[b"ce-time"].decode())
            id, request_id = UUID(lines[b"ce-id"].decode()), lines.get(b"x-request-id", b"").decode()
        except ValueError:
            return None
        sequence = int(lines[b"ce-sequence"])
        return cls(id, sequence, time, request_id) if time.tzinfo and 0 < sequence < 2**63 else None


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


def read_fact(subject: str, stamp: Stamp, body: bytes) -> Fact:
    """A message of the bus as a fact of the timeline. Raises Rejection when it is none.

    Types are not looked up: a newer service may tell what this gateway has never heard of.
    """
    try:
        (company, owner, level), story = _address(subject)
        text = body.decode()
        told = json.loads(text)
    except (BadSubject, ValueError, RecursionError) as error:
        raise Rejection(Code.INVALID, f"this is no fact: {error}") from error
    if not isinstance(told, dict) or stamp.sequence < 1:
        raise Rejection(Code.INVALID, "a fact is a JSON object with a ce-sequence from 1")
    return Fact(
        message_id=stamp.id,
        company_id=company,
        owner=owner,
        story=story,
        sequence=stamp.sequence,
        level=level,
        run_id=_id(told.get("run_id")),
        node_id=_id(told.get("node_id")),
        task_id=_id(told.get("task_id")),
        request_id=stamp.request_id,
        message=text,
        at=stamp.time,
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
    return _uuid(value) if isinstance(value, str) else None


@lru_cache(maxsize=4096)
def _uuid(text: str) -> UUID | None:
    """All facts of a run name the same."""
    try:
        return UUID(text)
    except ValueError:
        return None
