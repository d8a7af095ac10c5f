"""How a message of the outbox looks on the wire of NATS: its header lines, the publish, and the broker's answer.

`publish` of nats-py checks and encodes every header of every message, which costs a third of what a node may take
(docs/adr/0015); here what all messages of a story share is encoded once, and a batch is one write.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from uuid import UUID

from nats.aio.client import Client

from contracts.errors import FluidcrewError

#: written from the columns of a row, or the same for all
OF_THE_ROW = frozenset({"ce-id", "ce-subject", "ce-sequence", "nats-msg-id", "ce-specversion", "content-type"})
NAME = re.compile(r"[!#-9;-~]+")  # visible ASCII without quotation mark and colon
LINE_ENDS = str.maketrans("\r\n", "  ")
SUBJECT = re.compile(r"[!-~]+")
PLACE = re.compile(rb'"seq":\s*([1-9]\d*)')


class Unsendable(FluidcrewError):
    """A row that would break the connection instead of becoming a message."""


class Answer(NamedTuple):
    """What the broker said to a publish: the message's place in the stream, or why it has none (0)."""

    sequence: int
    duplicate: bool = False
    refusal: str = ""


def head_of(headers: Mapping[str, str]) -> bytes:
    """The lines of these headers, apart from those that are written from the row. Raises Unsendable on a bad name."""
    return lines((name, value) for name, value in headers.items() if name.lower() not in OF_THE_ROW)


def lines(headers: Iterable[tuple[str, str]]) -> bytes:
    out = []
    for name, value in headers:
        if not NAME.fullmatch(name):
            raise Unsendable(f"{name[:80]!r} is no name of a header")
        out.append(f"{name}: {value.translate(LINE_ENDS).strip()}\r\n")
    return "".join(out).encode()


def header_block(stream: str, id: UUID, sent_as: UUID | None, story: str, sequence: int, head: bytes) -> bytes:
    of_the_row = (
        f"ce-id: {id}\r\nce-subject: {story}\r\nce-sequence: {sequence}\r\nce-specversion: 1.0\r\n"
        f"content-type: application/json\r\nNats-Msg-Id: {sent_as or id}\r\nNats-Expected-Stream: {stream}\r\n\r\n"
    )
    return b"NATS/1.0\r\n" + head + of_the_row.encode()


def publish(subject: str, reply: str, block: bytes, body: bytes) -> bytes:
    """The command. Raises Unsendable when the subject has a space in it: the server would hang up."""
    if not SUBJECT.fullmatch(subject):
        raise Unsendable(f"{subject[:200]!r} is no subject")
    size = len(block)
    return b"HPUB %b %b %d %d\r\n%b%b\r\n" % (subject.encode(), reply.encode(), size, size + len(body), block, body)


async def send(nc: Client, commands: bytes) -> None:
    """Through nats-py's own buffer: it keeps the order with all other publishes, and nats-py has no door for bytes."""
    await nc._send_command(commands)
    await nc._flush_pending()


def read_answer(data: bytes) -> Answer:
    """Only a refusal is read as JSON: there is one answer for every message."""
    if (place := PLACE.search(data)) and b'"error"' not in data:
        return Answer(int(place[1]), b'"duplicate":true' in data.replace(b" ", b""))
    answer: dict[str, Any] = json.loads(data) if data else {}
    return Answer(0, refusal=answer.get("error", {}).get("description") or "no stream takes this subject")
