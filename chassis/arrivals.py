"""Messages as they come off the wire, for loops that read thousands a second.

nats-py reads header lines one by one, makes an object of every message and hands it to a task through a queue, which was a
third of the projector's time (docs/adr/0015). What is listened to here is handed over as bytes, by the reader itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

import structlog
from nats.aio.client import Client
from nats.protocol.parser import AWAITING_CONTROL_LINE

from chassis import wire

log = structlog.get_logger(__name__)

STATUS = b"NATS/1.0 "  # what a head begins with that is no message's
ACK = b"+ACK"
#: the two ways in which the server announces a message; the second never has a size of a head
WITH_HEAD = re.compile(rb"HMSG (\S+) (\d+) (?:(\S+) )?(\d+) (\d+)\r\n")
WITHOUT_HEAD = re.compile(rb"MSG (\S+) (\d+) (?:(\S+) )?()(\d+)\r\n")


class Arrival(NamedTuple):
    """`head` are the header lines below that of the protocol; it is empty without headers."""

    subject: str
    reply: str
    head: bytes
    body: bytes

    @property
    def status(self) -> str:
        """What the server says instead of a message: 408 Request Timeout."""
        if not self.head.startswith(STATUS):
            return ""
        return self.head[len(STATUS) :].partition(b"\r\n")[0].decode("ascii", "replace").strip()

    def headers(self) -> dict[str, str]:
        lines = self.head.decode("utf-8", "replace").split("\r\n")[1:]
        return {name: value.strip() for name, colon, value in (line.partition(":") for line in lines) if colon}


Hear = Callable[[Arrival], None]


class Listening:
    """A subscription whose messages are handed over in their order. Whoever hears them must not wait."""

    def __init__(self, nc: Client, subject: str, hear: Hear) -> None:
        self._nc, self._subject, self._hear = nc, subject, hear
        self._hearers = _hearers_of(nc)
        self._id = 0

    async def start(self) -> None:
        self._subscription = await self._nc.subscribe(self._subject)
        self._id = self._subscription._id
        self._hearers[self._id] = self._hear

    async def stop(self) -> None:
        self._hearers.pop(self._id, None)
        if not (self._nc.is_closed or self._nc.is_draining):
            await self._subscription.unsubscribe()


class _Reader:
    """Stands before the two methods of a connection that nats-py calls with bytes, and with a message of them."""

    def __init__(self, nc: Client) -> None:
        self._parser, self._parse, self._process = nc._ps, nc._ps.parse, nc._process_msg
        self.hearers: dict[int, Hear] = {}

    async def parse(self, data: bytes = b"") -> None:
        """Whole messages are handed over as they lie there; everything else is nats-py's to read."""
        parser = self._parser
        if parser.state == AWAITING_CONTROL_LINE:
            data = bytes(parser.buf) + data
            parser.buf.clear()
            read, whole = self._heard(data)
            data = data[read:]
            if not whole:  # the rest of it comes with the next bytes
                parser.buf.extend(data)
                return
        await self._parse(data)

    def _heard(self, data: bytes) -> tuple[int, bool]:
        """How many of the bytes have been heard, and False when a message for one of the hearers is cut off there."""
        at = 0
        while found := WITH_HEAD.match(data, at) or WITHOUT_HEAD.match(data, at):
            subject, sid, reply, size_of_head, size = found.groups()
            if (hear := self.hearers.get(int(sid))) is None:
                break
            begin = found.end()
            body, end = begin + int(size_of_head or 0), begin + int(size)
            if end + 2 > len(data):
                return at, False
            self._hear(hear, Arrival(subject.decode(), (reply or b"").decode(), data[begin:body], data[body:end]))
            at = end + 2
        return at, True

    async def process(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        if (hear := self.hearers.get(sid)) is None:
            await self._process(sid, subject, reply, data, headers)  # type: ignore[arg-type]  # None without headers
        else:
            self._hear(hear, Arrival(subject.decode(), reply.decode(), headers or b"", data))

    def _hear(self, hear: Hear, message: Arrival) -> None:
        try:
            hear(message)
        except Exception:  # it would end the connection's reader, and nobody would hear anything any more
            log.exception("bus.not_heard", subject=message.subject)


def _hearers_of(nc: Client) -> dict[int, Hear]:
    reader = getattr(nc._process_msg, "__self__", None)
    if not isinstance(reader, _Reader):
        reader = _Reader(nc)
        nc._process_msg = reader.process  # type: ignore[method-assign]
        nc._ps.parse = reader.parse  # type: ignore[method-assign]
    return reader.hearers


def nak(delay: float) -> bytes:
    return b"-NAK " + json.dumps({"delay": int(delay * 10**9)}).encode() if delay else b"-NAK"


async def settle(nc: Client, answers: Iterable[tuple[Arrival, bytes]]) -> None:
    """Tell JetStream what became of its messages, in one write."""
    await wire.send(nc, b"".join(b"PUB %b %d\r\n%b\r\n" % (m.reply.encode(), len(said), said) for m, said in answers))
