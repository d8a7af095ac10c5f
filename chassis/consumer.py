"""Our own pull loop over a durable consumer: three outcomes, attempts counted in the database, no message ever lost.

handled (or handled before)   ack, after the commit
Rejection                     dead letter, ack
RetryLater                    nak with its delay
anything else                 a bug: counted, nak with full-jitter backoff; dead letter after MAX_ATTEMPTS
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from uuid import uuid4

import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeout
from nats.js import JetStreamContext
from nats.js.errors import APIError
from opentelemetry.trace import SpanKind
from pydantic import ValidationError

from chassis import telemetry
from chassis.blobs import Blobs
from chassis.bus import Bus, MessageHandler
from chassis.dead_letters import DeadLetters, id_of_place, message_id
from chassis.outage import Outage
from chassis.postgres import CONNECTION_LOST, Pool, server_is_away, storable
from chassis.unit_of_work import AlreadyHandled
from contracts.envelope import Envelope
from contracts.errors import Code, Rejection, RetryLater
from contracts.message import Message
from contracts.streams import ConsumerSpec

log = structlog.get_logger(__name__)

MAX_ATTEMPTS = 5
CONCURRENCY = 16
BACKOFF_BASE, BACKOFF_CAP = 0.5, 60.0  # seconds

COUNT = """
insert into inbox_attempts as a (consumer, message_id, attempts, last_error) values ($1, $2, 1, $3)
on conflict (consumer, message_id) do update
    set attempts = a.attempts + 1, last_error = excluded.last_error, updated_at = clock_timestamp()
returning attempts
"""


class Consumer:
    """One durable consumer's loop in this process. Other replicas run the same loop on the same durable."""

    def __init__(
        self,
        spec: ConsumerSpec,
        handlers: Mapping[type[Message], MessageHandler],
        bus: Bus,
        pool: Pool,
        blobs: Blobs,
        dead_letters: DeadLetters,
    ) -> None:
        self._spec = spec
        self._handlers = {message.type_name(): (message, handler) for message, handler in handlers.items()}
        self._bus = bus
        self._js: JetStreamContext = bus.nc.jetstream(timeout=5)
        self._pool = pool
        self._blobs = blobs
        self._dead_letters = dead_letters
        self._slots = asyncio.Semaphore(CONCURRENCY)
        self._subscription: JetStreamContext.PullSubscription | None = None
        self._busy = False  # the last fetch brought something
        self._asked_at = 0.0
        self._reach = Outage("consumer.stream", consumer=spec.durable)
        self._database = Outage("consumer.database", consumer=spec.durable)

    async def run(self, stop: asyncio.Event) -> None:
        """Pull until told to stop; then finish what was started."""
        try:
            async with asyncio.TaskGroup() as running:
                while not stop.is_set():
                    await self._pull(running)
        finally:  # also when the time to stop is over: the connection's drain would wait for this subscription
            await self._unbind()

    async def _pull(self, running: asyncio.TaskGroup) -> None:
        try:
            if self._subscription is None:
                self._subscription = await self._bind()
                self._reach.over()
            await self._round(self._subscription, running)
        except (TimeoutError, NatsError, APIError) as error:
            self._reach.noticed(error)
            await self._unbind()
            await asyncio.sleep(self._reach.pause())

    async def _bind(self) -> JetStreamContext.PullSubscription:
        await self._js.consumer_info(self._spec.stream, self._spec.durable)  # raises while the keeper has not made it
        return await self._js.pull_subscribe_bind(consumer=self._spec.durable, stream=self._spec.stream)

    async def _unbind(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            try:
                await subscription.unsubscribe()
            except NatsError as error:
                log.info("consumer.unbind_failed", error=repr(error))

    async def _round(self, subscription: JetStreamContext.PullSubscription, running: asyncio.TaskGroup) -> None:
        await self._slots.acquire()
        self._slots.release()
        try:
            messages = await self._fetched(subscription, max(1, self._slots._value))
        except (TimeoutError, NatsTimeout):
            if not self._bus.connected:
                await asyncio.sleep(0.2)
            else:
                await self._still_there()
            return
        for message in messages:
            await self._slots.acquire()
            running.create_task(self._handle(message))

    async def _fetched(self, subscription: JetStreamContext.PullSubscription, free: int) -> list[Msg]:
        """A fetch of many keeps a lone message until its time is over: one is waited for, then what lies there is taken."""
        if self._busy:
            try:
                return await subscription.fetch(free, timeout=0.02)
            except (TimeoutError, NatsTimeout):
                self._busy = False
        first = await subscription.fetch(1, timeout=0.5)
        self._busy = True
        return first

    async def _still_there(self) -> None:
        """A deleted durable looks like an idle one; asking tells them apart (raises when it is gone)."""
        now = time.monotonic()
        if now - self._asked_at > 3.0:
            self._asked_at = now
            await self._js.consumer_info(self._spec.stream, self._spec.durable)

    async def _handle(self, message: Msg) -> None:
        pattern, began = self._spec.durable, time.perf_counter()
        try:
            if message.metadata.num_delivered > 1:
                telemetry.REDELIVERED.labels(self._spec.durable).inc()
            outcome = await self._outcome(message)
        except asyncio.CancelledError:  # the process stops: let another have it now, not when ack_wait is over
            await self._given_back(message, None)
            raise
        finally:
            self._slots.release()
        seconds = time.perf_counter() - began
        telemetry.HANDLED.labels(pattern, outcome).inc()
        telemetry.DURATION.labels(pattern).observe(seconds)
        log.debug("message.handled", subject=message.subject, outcome=outcome, ms=round(seconds * 1000, 1))

    async def _outcome(self, message: Msg) -> str:
        """Never fails: what is not acknowledged comes again, and the inbox knows it."""
        try:
            return await self._settled(message)
        except NatsError as error:
            log.info("message.unacknowledged", consumer=self._spec.durable, error=repr(error))
            return "unacknowledged"
        except CONNECTION_LOST as error:  # in the handler, or when its failure was to be written down
            self._database.noticed(error)
        except Exception:
            log.exception("message.unsettled", consumer=self._spec.durable, subject=message.subject)
        return await self._given_back(message, random.uniform(0.5, 2.0))

    async def _given_back(self, message: Msg, delay: float | None) -> str:
        try:
            await message.nak(delay=delay)
        except NatsError as error:
            log.info("message.unacknowledged", consumer=self._spec.durable, error=repr(error))
        return "retried"

    async def _settled(self, message: Msg) -> str:
        try:
            await self._dispatch(message)
        except AlreadyHandled:
            await message.ack_sync(timeout=5)
            return "repeated"
        except RetryLater as later:
            await message.nak(delay=later.delay)
            return "retried"
        except Rejection as rejection:
            await self._bury(message, str(rejection), 1)
            return "dead"
        except Exception as error:
            if server_is_away(error):
                raise
            return await self._on_bug(message, error)
        self._database.over()
        await message.ack_sync(timeout=5)
        return "handled"

    async def _dispatch(self, message: Msg) -> None:
        envelope, body = await self.opened(message.headers, message.data)
        with (
            structlog.contextvars.bound_contextvars(request_id=envelope.request_id, story=envelope.story),
            telemetry.span(f"{self._spec.durable} {envelope.type}", SpanKind.CONSUMER, envelope.traceparent),
        ):
            await self.handle(message.subject, envelope, body)

    async def opened(self, headers: Mapping[str, str] | None, data: bytes) -> tuple[Envelope, bytes]:
        envelope = Envelope.from_headers(headers)
        return envelope, data if envelope.claim is None else await self._blobs.get(envelope.claim)

    async def handle(self, subject: str, envelope: Envelope, body: bytes) -> None:
        """Parse and hand to the handler; also how a dead letter is replayed. Raises Rejection on what cannot be read."""
        if envelope.type not in self._handlers:
            raise Rejection(Code.INVALID, f"{self._spec.durable} has no handler for {envelope.type!r}")
        kind, handler = self._handlers[envelope.type]
        try:
            parsed = kind.model_validate_json(body)
        except ValidationError as error:
            raise Rejection(Code.INVALID, f"the body is no {envelope.type}: {error}") from error
        if parsed.subject != subject:
            raise Rejection(Code.INVALID, f"the body speaks of {parsed.subject}, the subject is {subject}")
        await handler(parsed, envelope)

    async def _on_bug(self, message: Msg, error: Exception) -> str:
        log.exception("message.failed", consumer=self._spec.durable, subject=message.subject)
        telemetry.report(error, consumer=self._spec.durable)
        id = message_id(message.headers or {}) or id_of_place(message.reply) or uuid4()
        attempts = await self._pool.fetchval(COUNT, self._spec.durable, id, storable(repr(error))[:2000])
        if attempts >= MAX_ATTEMPTS:
            await self._bury(message, repr(error), attempts)
            return "dead"
        await message.nak(delay=random.uniform(0.1, min(BACKOFF_CAP, BACKOFF_BASE * 2**attempts)))
        return "failed"

    async def _bury(self, message: Msg, reason: str, attempts: int) -> None:
        log.error("message.dead", consumer=self._spec.durable, subject=message.subject, reason=reason)
        headers = dict(message.headers or {})
        await self._dead_letters.bury(
            self._spec.durable, message.subject, headers, message.data, reason, attempts, reply=message.reply
        )
        await message.ack_sync(timeout=5)
