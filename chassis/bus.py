"""The bus: one connection per process with every dangerous default overruled, requests and answers, doorbells, streams.

FastStream serves requests; pulling from streams is a loop of our own (`chassis.consumer`). What is overruled and why is in
findings-reliability §2.5: reconnects are endless, a closed connection ends the process, every reply is one envelope.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import structlog
from faststream.nats import NatsBroker, NatsMessage
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeout
from opentelemetry.trace import SpanKind
from pydantic import BaseModel, TypeAdapter, ValidationError

from chassis import telemetry
from chassis.blobs import Blobs
from chassis.context import Context
from chassis.postgres import CONNECTION_LOST
from chassis.unit_of_work import Answered
from contracts import subjects
from contracts.envelope import CLAIM_CHECK_BYTES, REPLY_LIMIT_BYTES, Envelope, Reply
from contracts.errors import Code, Failure, FluidcrewError, Rejection, RetryLater
from contracts.message import Live, Message, Request
from contracts.refs import BlobRef
from contracts.streams import ConsumerSpec

log = structlog.get_logger(__name__)

A = TypeVar("A", bound=BaseModel)
M = TypeVar("M", bound=Message)
MessageHandler = Callable[[Any, Envelope], Awaitable[None]]
RequestHandler = Callable[[Any, Context], Awaitable[BaseModel]]

CONCURRENT_REQUESTS = 64  # per subject and process
CLAIM_HEADER = "x-claim"


async def _the_message_itself(message: NatsMessage) -> NatsMessage:
    """As decoder: FastStream's own guesses at JSON when a content type is missing (findings-throughput, pitfall 2)."""
    return message


class Bus:
    """`serve`, `on` and `on_signal` are called before `start`; the rest after it."""

    def __init__(self, service: str, url: str, blobs: Blobs, *, graceful_timeout: float = 10.0) -> None:
        self.service = service
        self._blobs = blobs
        self._broker = NatsBroker(
            url,
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
            decoder=_the_message_itself,
            logger=None,
        )
        self._stopping = False
        self.last_error: Exception | None = None
        self._asking: set[asyncio.Timeout] = set()
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
        try:
            await self.nc.flush(timeout=2)
        except (TimeoutError, NatsTimeout):
            return False
        return True

    async def stop(self) -> None:
        """Stop listening, let running handlers finish, close."""
        self._stopping = True
        try:
            await self._broker.stop()
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 – nats-py raises all sorts then
            log.info("bus.closed_roughly", error=repr(error))

    async def _on_error(self, error: Exception) -> None:
        if not self._stopping and repr(error) != repr(
            self.last_error
        ):  # while it is away it says the same all the time
            log.warning("bus.error", error=repr(error))  # a denied publish is told only here: its caller sees a timeout
        self.last_error = error

    async def _on_closed(self) -> None:
        if not self._stopping:
            log.error("bus.closed", hint="nats-py does not come back from this; the supervisor restarts the process")
            os._exit(70)

    async def _on_disconnected(self) -> None:
        """Answers to what is being asked cannot come any more: the server lets them go out on that connection only."""
        for limit in self._asking:
            limit.reschedule(asyncio.get_running_loop().time())

    async def _on_reconnected(self) -> None:
        log.info("bus.reconnected")
        self.last_error = None
        for hook in self.on_reconnect:
            hook()

    # requests ---------------------------------------------------------------------------------------------------------

    def serve(self, request: type[Request[Any]], handler: RequestHandler) -> None:
        """Answer a request; every replica of the service shares the work."""
        adapter: TypeAdapter[Any] = TypeAdapter(request)

        async def answer(message: NatsMessage) -> bytes:
            return await self._answered(request, adapter, handler, message)

        self._broker.subscriber(request.subject(), queue=self.service, max_workers=CONCURRENT_REQUESTS)(answer)

    async def _answered(
        self, request: type[Request[Any]], adapter: TypeAdapter[Any], handler: RequestHandler, message: NatsMessage
    ) -> bytes:
        pattern, began = request.subject(), time.perf_counter()
        context = Context.from_headers(message.headers)
        with (
            structlog.contextvars.bound_contextvars(request_id=context.request_id),
            telemetry.span(pattern, SpanKind.SERVER, context.traceparent, **{"messaging.system": "nats"}),
        ):
            body, outcome = await self._reply(adapter, handler, message, context, pattern)
        seconds = time.perf_counter() - began
        telemetry.HANDLED.labels(pattern, outcome).inc()
        telemetry.DURATION.labels(pattern).observe(seconds)
        log.debug("request.handled", pattern=pattern, outcome=outcome, ms=round(seconds * 1000, 1))
        return body

    async def _reply(
        self, adapter: TypeAdapter[Any], handler: RequestHandler, message: NatsMessage, context: Context, pattern: str
    ) -> tuple[bytes, str]:
        """Whatever happens, the caller gets an answer: nobody shall wait for one that never comes."""
        try:
            reply, outcome = await self._handled(adapter, handler, message, context)
            return await self._fitting(reply), outcome
        except RetryLater as away:  # the object store that a large answer needs
            failure, outcome = away.failure, "refused"
        except CONNECTION_LOST as error:
            log.warning("request.database_gone", pattern=pattern, error=repr(error))
            hint = f"the service {self.service} cannot reach its database right now; repeat the request"
            failure, outcome = RetryLater(2.0, hint).failure, "refused"
        except Exception as error:
            log.exception("request.failed", pattern=pattern)
            telemetry.report(error, pattern=pattern, request_id=context.request_id)
            hint = f"{self.service} failed on this request; its log has the cause"
            failure, outcome = Failure(code=Code.INTERNAL, message=hint), "failed"
        return Reply(failure=failure).model_dump_json(exclude_none=True).encode(), outcome

    async def _handled(
        self, adapter: TypeAdapter[Any], handler: RequestHandler, message: NatsMessage, context: Context
    ) -> tuple[Reply, str]:
        try:
            body = await self._body(message.body, message.headers)
            answer = await handler(adapter.validate_json(body), context)
            return Reply(answer=answer.model_dump(mode="json")), "answered"
        except Answered as before:
            return Reply(answer=before.answer), "repeated"
        except (Rejection, RetryLater) as refusal:
            return Reply(failure=refusal.failure), "refused"
        except ValidationError as error:
            return Reply(failure=_invalid(error)), "refused"

    async def _fitting(self, reply: Reply) -> bytes:
        body = reply.model_dump_json(exclude_none=True).encode()
        if len(body) <= REPLY_LIMIT_BYTES:
            return body
        ref = await self._blobs.put(body, company="rpc", content_type="application/json")
        return Reply(claim=ref).model_dump_json(exclude_none=True).encode()

    async def ask(self, request: Request[A], context: Context, *, patience: float | None = None) -> A:
        """The owner's answer. Raises the Rejection it gave, or RetryLater when it gives none within `patience` seconds."""
        if not self.nc.is_connected:
            raise RetryLater(2.0, "the bus is not connected")
        body, headers = request.model_dump_json().encode(), context.headers()
        if len(body) > CLAIM_CHECK_BYTES:
            ref = await self._blobs.put(body, company=request.company, content_type="application/json")
            body, headers = b"{}", headers | {CLAIM_HEADER: ref.model_dump_json()}
        with telemetry.span(request.subject(), SpanKind.CLIENT, **{"messaging.system": "nats"}):
            headers |= Context.headers(context)
            answer = await self._asked(request, body, headers, patience or request.patience)
        return self._understood(request, answer)

    async def _asked(self, request: Request[A], body: bytes, headers: dict[str, str], patience: float) -> Reply:
        try:
            async with asyncio.timeout(None) as limit:
                self._asking.add(limit)
                try:
                    message = await self.nc.request(request.subject(), body, timeout=patience, headers=headers or None)
                finally:
                    self._asking.discard(limit)
        except NoRespondersError:
            raise RetryLater(1.0, f"the service {request.owner} is not running") from None
        except (TimeoutError, NatsTimeout):
            if limit.expired():
                raise RetryLater(
                    1.0, "the bus lost its connection before the answer came; repeat the request"
                ) from None
            raise RetryLater(2.0, f"the service {request.owner} did not answer within {patience:g} s") from None
        except NatsError as error:
            raise RetryLater(2.0, f"the bus failed: {error!r}") from error
        reply = Reply.model_validate_json(message.data)
        if reply.claim is not None:
            reply = Reply.model_validate_json(await self._blobs.get(reply.claim))
        return reply

    def _understood(self, request: Request[A], reply: Reply) -> A:
        failure = reply.failure
        if failure is None:
            return request.answer.model_validate(reply.answer)  # type: ignore[return-value]
        if failure.code is Code.UNAVAILABLE:
            raise RetryLater(failure.retry_after or 1.0, failure.message)
        refusal = Rejection(failure.code, failure.message)
        refusal.failure = failure
        raise refusal

    async def _body(self, body: bytes, headers: Mapping[str, str]) -> bytes:
        if (claim := headers.get(CLAIM_HEADER)) is None:
            return body
        return await self._blobs.get(BlobRef.model_validate_json(claim))

    # streams, doorbells and live deltas -------------------------------------------------------------------------------

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

    @asynccontextmanager
    async def watch(self, subject: str, *, limit: int = 1024) -> AsyncIterator[AsyncIterator[tuple[str, bytes]]]:
        """Live messages of a subject, oldest first. A watcher who falls `limit` behind raises SlowWatcher."""
        queue: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue(limit)
        overflow = asyncio.Event()

        async def put(message: Msg) -> None:
            if overflow.is_set():
                return  # after a gap nothing follows
            try:
                queue.put_nowait((message.subject, message.data))
            except asyncio.QueueFull:
                overflow.set()

        subscription = await self.nc.subscribe(subject, cb=put)
        try:
            yield _drain(queue, overflow)
        finally:
            if not self.nc.is_closed:  # without a connection as well, or it would be renewed with the next one
                await subscription.unsubscribe()


class SlowWatcher(FluidcrewError):
    """A watcher did not keep up and must start again."""


async def _drain(queue: asyncio.Queue[tuple[str, bytes]], overflow: asyncio.Event) -> AsyncIterator[tuple[str, bytes]]:
    while True:
        if overflow.is_set() and queue.empty():
            raise SlowWatcher("too many live messages were not read in time")
        yield await queue.get()


def _invalid(error: ValidationError) -> Failure:
    problems = [
        {"loc": list(p["loc"]), "msg": p["msg"], "type": p["type"]}
        for p in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    return Failure(code=Code.INVALID, message="the request does not fit its schema", details={"errors": problems})
