"""The bus: one connection per process with every dangerous default overruled, and all that goes over it.

FastStream serves requests; pulling from streams is a loop of our own (`chassis.consumer`). Overruled: reconnects are endless
(nats-py gives up after 60), a closed connection ends the process (FastStream's loop would spin on it), and every reply is
one envelope.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar
from uuid import uuid4

import structlog
from faststream.nats import NatsBroker, NatsMessage
from faststream.nats.security import NatsSecurity, NatsToken, NatsUserPassword
from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import BaseModel

from chassis import live
from chassis.answering import Answerer, RequestHandler
from chassis.asking import Asker, understood
from chassis.blobs import Blobs
from chassis.context import Context
from chassis.nats_address import NatsAddress
from chassis.pausing import ended
from contracts import subjects
from contracts.envelope import Envelope
from contracts.message import Live, Message, Request
from contracts.streams import ConsumerSpec

log = structlog.get_logger(__name__)

A = TypeVar("A", bound=BaseModel)
MessageHandler = Callable[[Any, Envelope], Awaitable[None]]

CONCURRENT_REQUESTS = 64  # per subject and process


async def _the_message_itself(message: NatsMessage) -> NatsMessage:
    """As decoder: FastStream guesses at JSON when a content type is missing, and hands bytes over as what it guessed."""
    return message


def _login(address: NatsAddress) -> NatsSecurity | None:
    if address.user is None:
        return None
    return NatsToken(address.user) if address.password is None else NatsUserPassword(address.user, address.password)


class Bus:
    """`serve`, `on` and `on_signal` are called before `start`; the rest after it."""

    def __init__(self, service: str, url: str, blobs: Blobs, *, graceful_timeout: float = 10.0) -> None:
        self.service = service
        self._blobs = blobs
        address = NatsAddress.of(url)
        self._broker = NatsBroker(
            address.servers,
            security=_login(address),
            name=service,
            inbox_prefix=f"_INBOX_{service}".encode(),
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.25,  # type: ignore[arg-type]  # annotated int, used as seconds
            connect_timeout=3,
            ping_interval=20,
            pending_size=16 * 2**20,
            error_cb=self._on_error,
            closed_cb=self._on_closed,
            disconnected_cb=self._on_disconnected,
            reconnected_cb=self._on_reconnected,
            graceful_timeout=graceful_timeout,
            drain_timeout=5,
            apply_types=False,
            serializer=None,  # or a model is built for every subject, which nothing uses then
            decoder=_the_message_itself,
            logger=None,
        )
        self._stopping = False
        self.last_error: Exception | None = None
        self._asker = Asker(blobs)
        self.on_reconnect: list[Callable[[], None]] = []
        self.consumers: list[tuple[ConsumerSpec, Mapping[type[Message], MessageHandler]]] = []

    @property
    def nc(self) -> Client:
        """The connection, for loops of our own."""
        return self._broker.connection

    @property
    def connected(self) -> bool:
        return self._broker._connection is not None and self.nc.is_connected

    async def connect(self) -> None:
        await self._broker.connect()

    async def start(self) -> None:
        """Begin to answer requests and hear doorbells."""
        await self._broker.start()
        while not await self._heard():  # others may hear that we are up only when the server knows our subscriptions
            log.info("bus.waits", hint="the connection broke; the next one brings the subscriptions along")

    async def _heard(self) -> bool:
        """Whether a message of ours comes back: it cannot overtake subscriptions, as the ping of nats-py's flush can."""
        mine, back, subject = uuid4().bytes, asyncio.Event(), subjects.signal(self.service, "up")

        async def hear(message: Msg) -> None:
            if message.data == mine:  # not another replica's
                back.set()

        subscription = await self.nc.subscribe(subject, cb=hear)
        try:
            async with asyncio.timeout(2):
                await self.nc.publish(subject, mine)
                await back.wait()
        except TimeoutError:
            return False
        finally:
            await subscription.unsubscribe()
        return True

    async def stop(self) -> None:
        """Stop listening, let running handlers finish, close."""
        self._stopping = True
        connection = self._broker._connection
        try:
            await self._broker.stop()
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 – nats-py raises all sorts then
            log.info("bus.closed_roughly", error=repr(error))
        if connection is not None:
            await _end_reconnecting(connection)

    async def _on_error(self, error: Exception) -> None:
        if not self._stopping and repr(error) != repr(self.last_error):  # while away it says the same all the time
            log.warning("bus.error", error=repr(error))  # a denied publish is told only here: its caller sees a timeout
        self.last_error = error

    async def _on_closed(self) -> None:
        if not self._stopping:
            log.error("bus.closed", hint="nats-py does not come back from this; the supervisor restarts the process")
            os._exit(70)

    async def _on_disconnected(self) -> None:
        self._asker.connection_lost()

    async def _on_reconnected(self) -> None:
        log.info("bus.reconnected")
        self.last_error = None
        for hook in self.on_reconnect:
            hook()

    def serve(self, request: type[Request[Any]], handler: RequestHandler) -> None:
        """Answer a request; every replica of the service shares the work."""
        answerer = Answerer(self.service, self._blobs, request, handler)
        self._broker.subscriber(request.subject(), queue=self.service, max_workers=CONCURRENT_REQUESTS)(answerer.answer)

    async def ask(
        self,
        request: Request[A],
        context: Context,
        *,
        patience: float | None = None,
        on_replay: Callable[[], None] | None = None,
    ) -> A:
        """The owner's answer. Raises the Rejection it gave, or RetryLater when it gives none within `patience` seconds.

        `on_replay` is called when the owner had carried this order out before.
        """
        reply = await self._asker.ask(self.nc, request, context, patience or request.waits())
        if reply.replayed and on_replay is not None:
            on_replay()
        return understood(request, reply)

    def on(self, consumer: ConsumerSpec, handlers: Mapping[type[Message], MessageHandler]) -> None:
        """Handle a durable consumer's messages, each type by its handler."""
        self.consumers.append((consumer, handlers))

    async def ring(self, what: str, body: bytes = b"") -> None:
        """A doorbell for whoever listens: saves latency, promises nothing."""
        if self.connected:
            await self.nc.publish(subjects.signal(self.service, what), body)

    def on_signal(self, owner: str, what: str, handler: Callable[[bytes], Awaitable[None]]) -> None:
        """Hear a doorbell; every replica does."""

        async def hear(message: NatsMessage) -> None:
            await handler(message.body)

        self._broker.subscriber(subjects.signal(owner, what), max_workers=4)(hear)

    async def live(self, message: Live) -> None:
        """A delta for whoever watches; dropped when nobody can hear it."""
        if self.connected:
            await self.nc.publish(message.subject, message.model_dump_json().encode())

    def watch(
        self, subject: str, *, limit: int = 1024
    ) -> AbstractAsyncContextManager[AsyncIterator[tuple[str, bytes]]]:
        """Live messages of a subject, oldest first. A watcher who falls `limit` behind raises SlowWatcher."""
        return live.watch(self.nc, subject, limit)


async def _end_reconnecting(connection: Client) -> None:
    """nats-py does not close while it reconnects: it would go on, and keep the process from ending."""
    if (task := connection._reconnection_task) is not None:
        await ended(task)
