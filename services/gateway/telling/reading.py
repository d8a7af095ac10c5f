"""Messages of the bus as facts of the timeline: as our services write them in microseconds, all others by their Envelope."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID

from asyncpg.pgproto import pgproto
from pydantic_core import from_json

from contracts.envelope import Envelope
from contracts.errors import Code, Rejection
from contracts.subjects import IDENTIFIER, BadSubject, parse
from services.gateway.domain.facts import OF_A_RUN, OF_A_TASK, Fact, level_of, tombstone

#: of the lines that all messages of a type share in a transaction, and of those that are a message's own (chassis/wire.py)
SHARED = re.compile(rb"\r\n(ce-type|ce-source|ce-time|x-request-id|x-claim): ([^\r\n]*)")
OWN = re.compile(
    rb"([0-9a-f-]{36})\r\nce-subject: [^\r\n]*\r\nce-sequence: ([1-9]\d{0,17})\r\nce-specversion: 1\.0\r\n"
    rb"content-type: application/json\r\nNats-Msg-Id: [^\r\n]*\r\nNats-Expected-Stream: EVENTS\r\n\r\n"
)
PLAIN = {b"ce-type", b"ce-source", b"ce-time"}


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
        """From header lines without any oddity, in a tenth of the time. None: only an Envelope can say what is in them."""
        shared, _, rest = head.partition(b"\r\nce-id: ")
        if (own := OWN.fullmatch(rest)) is None or (told := _shared(shared)) is None:
            return None
        id = _uuid(own[1].decode())
        return cls(id, int(own[2]), *told) if id is not None else None


@lru_cache(maxsize=4096)
def _shared(lines: bytes) -> tuple[datetime, str] | None:
    """When, and at whose request."""
    found = dict(SHARED.findall(lines))
    if not found.keys() >= PLAIN or b"x-claim" in found:
        return None
    try:
        time, request_id = datetime.fromisoformat(found[b"ce-time"].decode()), found.get(b"x-request-id", b"").decode()
    except ValueError:
        return None
    return (time, request_id) if time.tzinfo else None


def read_fact(subject: str, stamp: Stamp, body: bytes) -> Fact:
    """A message of the bus as a fact of the timeline. Raises Rejection when it is none.

    Types are not looked up: a newer service may tell what this gateway has never heard of.
    """
    try:
        (company, owner, level), story = _address(subject)
        text = body.decode()
        told = from_json(body)
    except (BadSubject, ValueError) as error:
        raise Rejection(Code.INVALID, f"this is no fact: {error}") from error
    if not isinstance(told, dict) or stamp.sequence < 1:
        raise Rejection(Code.INVALID, "a fact is a JSON object with a ce-sequence from 1")
    ids = _id(told.get("run_id")), _id(told.get("node_id")), _id(told.get("task_id"))
    id, sequence, at, request_id = stamp
    return Fact(id, company, owner, story, sequence, level, *ids, request_id, text, at)


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


def _id(value: object) -> UUID | None:
    return _uuid(value) if isinstance(value, str) else None


def _uuid(text: str) -> UUID | None:
    """asyncpg's class takes a tenth of the time of the library's, and is one of its."""
    try:
        return pgproto.UUID(text)
    except ValueError:
        return None
