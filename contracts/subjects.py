"""The one grammar of subjects: builds them, parses them, refuses tokens that would break a filter.

evt|cmd|live . <company> . <owner> . <entity> . <verb or fact> . <id>      dlq . <durable>
rpc . <owner> . <entity> . <verb>                                          sig . <owner> . <what>
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from contracts.errors import FluidcrewError
from contracts.refs import SLUG_PATTERN

WORD = re.compile(r"^[a-z][a-z0-9_]{0,39}$")
IDENTIFIER = re.compile(r"^[A-Za-z0-9_-]{1,64}$")
SLUG = re.compile(SLUG_PATTERN)
DURABLE = re.compile(r"^[a-z][a-z0-9-]{0,63}$")

SERVICES = ("gateway", "planner", "executor", "feedback", "publisher", "rag")
OWNERS = (*SERVICES, "keeper")


class BadSubject(FluidcrewError):
    """A subject or one of its tokens does not follow the grammar."""


class Kind(StrEnum):
    COMMAND = "cmd"  # stored; imperative, belongs to the receiver
    EVENT = "evt"  # stored; past tense, belongs to the emitter
    DEAD_LETTER = "dlq"  # stored
    REQUEST = "rpc"  # answered at once or not at all
    LIVE = "live"  # for whoever watches now
    SIGNAL = "sig"  # a doorbell: only saves latency


STORY_KINDS = frozenset({Kind.COMMAND, Kind.EVENT, Kind.LIVE})


def _checked(token: str, pattern: re.Pattern[str], what: str) -> str:
    if not pattern.fullmatch(token):
        raise BadSubject(f"{token[:80]!r} is no valid {what} (expected {pattern.pattern})")
    return token


def _owner(token: str) -> str:
    if token not in OWNERS:
        raise BadSubject(f"{token[:80]!r} is no owner; owners are {', '.join(OWNERS)}")
    return token


@dataclass(frozen=True, slots=True)
class Subject:
    """A parsed concrete subject. `company` and `id` are empty where the kind has none."""

    kind: Kind
    owner: str
    entity: str
    verb: str
    company: str = ""
    id: str = ""

    def __str__(self) -> str:
        if self.kind in STORY_KINDS:
            return f"{self.kind}.{self.company}.{self.owner}.{self.entity}.{self.verb}.{self.id}"
        if self.kind is Kind.REQUEST:
            return f"{self.kind}.{self.owner}.{self.entity}.{self.verb}"
        if self.kind is Kind.SIGNAL:
            return f"{self.kind}.{self.owner}.{self.entity}"
        return f"{self.kind}.{self.entity}"


def story(kind: Kind, company: str, owner: str, entity: str, verb: str, id: object) -> str:
    """The subject of a command, fact or live delta of one story."""
    if kind not in STORY_KINDS:
        raise BadSubject(f"{kind} subjects belong to no story")
    return f"{_stem(kind, company, owner, entity, verb)}.{_checked(str(id), IDENTIFIER, 'id')}"


@lru_cache(maxsize=4096)
def _stem(kind: Kind, company: str, owner: str, entity: str, verb: str) -> str:
    """All but the last token: the same for thousands of stories."""
    return (
        f"{kind}.{_checked(company, SLUG, 'company')}.{_owner(owner)}.{_checked(entity, WORD, 'entity')}"
        f".{_checked(verb, WORD, 'verb')}"
    )


def request(owner: str, entity: str, verb: str) -> str:
    return f"rpc.{_owner(owner)}.{_checked(entity, WORD, 'entity')}.{_checked(verb, WORD, 'verb')}"


def signal(owner: str, what: str) -> str:
    return f"sig.{_owner(owner)}.{_checked(what, WORD, 'signal')}"


def dead_letter(durable: str) -> str:
    return f"dlq.{_checked(durable, DURABLE, 'durable')}"


def parse(subject: str) -> Subject:
    """The parts of a concrete subject. Raises BadSubject naming the offending token."""
    head, *rest = subject.split(".")
    try:
        kind = Kind(head)
    except ValueError:
        raise BadSubject(f"{head[:80]!r} is no kind of subject; kinds are {', '.join(Kind)}") from None
    expected = {Kind.REQUEST: 3, Kind.SIGNAL: 2, Kind.DEAD_LETTER: 1}.get(kind, 5)
    if len(rest) != expected:
        raise BadSubject(f"{subject[:200]!r} has {len(rest)} tokens after {kind}, not {expected}")
    if kind is Kind.DEAD_LETTER:
        return Subject(kind, "keeper", _checked(rest[0], DURABLE, "durable"), "")
    if kind is Kind.SIGNAL:
        return Subject(kind, _owner(rest[0]), _checked(rest[1], WORD, "signal"), "")
    if kind is Kind.REQUEST:
        return Subject(kind, _owner(rest[0]), _checked(rest[1], WORD, "entity"), _checked(rest[2], WORD, "verb"))
    company, owner, entity, verb, id = rest
    story(kind, company, owner, entity, verb, id)
    return Subject(kind, owner, entity, verb, company, id)


def story_filter(
    kind: Kind, *, company: str = "*", owner: str = "*", entity: str = "*", verb: str = "*", id: object = "*"
) -> str:
    """A filter over the stories of a kind: what is left out matches everything."""
    tokens = ((company, SLUG, "company"), (owner, WORD, "owner"), (entity, WORD, "entity"), (verb, WORD, "verb"))
    checked = [t if t == "*" else _checked(t, pattern, what) for t, pattern, what in tokens]
    last = str(id)
    return ".".join([kind, *checked, last if last == "*" else _checked(last, IDENTIFIER, "id")])
