"""Reads a stream of the bus from some point on, without gap and without repeat, also across restarts of the broker.

The `cli` user may only make push consumers without a name. One lives as long as the connection does; whatever breaks
it (a restart, a lost message, silence), the next one begins behind the last message that was handed out.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error
from nats.js import api
from nats.js.errors import APIError, NotFoundError

from fluidcrew.ending import end_if_canceled
from fluidcrew.exits import Exit, Halt
from fluidcrew.progress import moment
from fluidcrew.since import Since

HEARTBEAT = 1.0
SILENCE = 3 * HEARTBEAT
FORGOTTEN = 2.0  # seconds after which the server removes a consumer that nobody listens to, however we ended
REST = 0.25  # between attempts to make a consumer
REMEMBERED = 20_000  # message ids: what a repaired broker is told again is not shown again


class Broken(Exception):
    """This consumer brings nothing more, or not all; the next one goes on."""


@dataclass(frozen=True, slots=True)
class Received:
    subject: str
    headers: dict[str, str]
    data: bytes
    sequence: int
    at: datetime


class Tail:
    """`async for received in Tail(nc, "EVENTS", ["evt.>"], since).read()`, for ever."""

    def __init__(self, nc: Client, stream: str, filters: Sequence[str], since: Since | None) -> None:
        self._nc, self._stream, self._filters = nc, stream, list(filters)
        self._js = nc.jetstream(timeout=2)
        self._since = since
        self._begun = datetime.now(UTC)
        self._next: int | None = since.sequence if since else None
        self._created = ""
        self._seen: deque[str] = deque(maxlen=REMEMBERED)
        self._known: set[str] = set()
        self._rebuilt = False

    async def start(self) -> None:
        """Fixes where to begin, so that nothing that happens from now on is missed. Raises Halt without the stream."""
        try:
            info = await self._js.stream_info(self._stream)
        except NotFoundError:
            raise Halt(
                Exit.UNREACHABLE, f"the bus has no stream {self._stream}: make it with `fluidcrew bus apply`"
            ) from None
        self._created = str(info.created)
        if self._since is None:
            self._next = info.state.last_seq + 1

    async def read(self) -> AsyncIterator[Received]:
        while True:
            try:
                async for received in self._one_consumer():
                    yield received
            except (Broken, Error, APIError, TimeoutError, OSError):
                end_if_canceled()
                await asyncio.sleep(REST)

    async def _one_consumer(self) -> AsyncIterator[Received]:
        await self._look_at_stream()
        inbox = self._nc.new_inbox()
        subscription = await self._nc.subscribe(inbox)
        reconnects = self._nc.stats["reconnects"]
        try:
            await self._js.add_consumer(self._stream, self._config(inbox))
            expected = 1
            while True:
                message = await self._receive(subscription, reconnects)
                if message is None:
                    continue
                if message.metadata.sequence.consumer != expected:
                    raise Broken("a message was lost on the way")
                expected += 1
                self._next = message.metadata.sequence.stream + 1
                if self._is_news(message):
                    yield _received(message)
        finally:
            await _forget(subscription)

    async def _receive(self, subscription: Subscription, reconnects: int) -> Msg | None:
        """A message of the stream, or None for what the server says in between."""
        try:
            message = await subscription.next_msg(timeout=SILENCE)
            end_if_canceled()
        except TimeoutError as error:  # also nats-py's own
            raise Broken("not even a heartbeat") from error
        if self._nc.stats["reconnects"] != reconnects:
            raise Broken("the connection was lost in between")
        status = (message.headers or {}).get("Status")
        if status is None:
            return message
        await self._answer(message)
        if status != "100":
            raise Broken(f"the consumer ended ({status})")
        return None

    async def _answer(self, message: Msg) -> None:
        """Flow control: the server goes on when it hears that we have come this far."""
        stalled = (message.headers or {}).get("Nats-Consumer-Stalled")
        for subject in filter(None, (message.reply, stalled)):
            await self._nc.publish(subject)

    async def _look_at_stream(self) -> None:
        """A stream that was made anew, or lost its end, is filled again with what the owners still hold."""
        info = await self._js.stream_info(self._stream)
        lost_its_end = self._next is not None and self._next > info.state.last_seq + 1
        if str(info.created) != self._created:
            self._created, self._next, self._rebuilt = str(info.created), 1, True
        elif lost_its_end:
            self._next, self._rebuilt = max(1, info.state.last_seq + 1 - REMEMBERED), True

    def _config(self, inbox: str) -> api.ConsumerConfig:
        by_time = self._next is None
        return api.ConsumerConfig(
            deliver_subject=inbox,
            deliver_policy=api.DeliverPolicy.BY_START_TIME if by_time else api.DeliverPolicy.BY_START_SEQUENCE,
            opt_start_time=self._since.at if by_time and self._since else None,
            opt_start_seq=self._next,
            ack_policy=api.AckPolicy.NONE,
            filter_subject=self._filters[0] if len(self._filters) == 1 else None,
            filter_subjects=self._filters if len(self._filters) > 1 else None,
            flow_control=True,
            idle_heartbeat=HEARTBEAT,
            inactive_threshold=FORGOTTEN,
            mem_storage=True,
            num_replicas=1,
        )

    def _is_news(self, message: Msg) -> bool:
        """Not what was handed out before, and not what a rebuilt stream tells of the time before we began."""
        id = (message.headers or {}).get("Nats-Msg-Id", "")
        if id and id in self._known:
            return False
        if id:
            if len(self._seen) == REMEMBERED:
                self._known.discard(self._seen[0])
            self._seen.append(id)
            self._known.add(id)
        return not self._rebuilt or self._happened_in_time(message)

    def _happened_in_time(self, message: Msg) -> bool:
        if self._since is not None and self._since.at is None:
            return True
        earliest = self._since.at if self._since and self._since.at else self._begun
        at = moment((message.headers or {}).get("ce-time"))
        return at is None or at.tzinfo is None or at >= earliest


def _received(message: Msg) -> Received:
    metadata = message.metadata
    at = metadata.timestamp if metadata.timestamp.tzinfo else metadata.timestamp.replace(tzinfo=UTC)
    return Received(message.subject, dict(message.headers or {}), message.data, metadata.sequence.stream, at)


async def _forget(subscription: Subscription) -> None:
    """The server removes a push consumer that nobody listens to."""
    with suppress(Error, OSError):  # when the connection is gone, so is the subscription
        await subscription.unsubscribe()
