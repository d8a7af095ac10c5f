"""Asking an owner: its answer, the refusal it gave, or at once the word that none can come."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError
from nats.errors import TimeoutError as NatsTimeout
from opentelemetry.trace import SpanKind
from pydantic import BaseModel, ValidationError

from chassis import telemetry
from chassis.blobs import PASSING, Blobs
from chassis.context import Context
from contracts.catalog import OWNER_REQUESTS
from contracts.envelope import CLAIM_CHECK_BYTES, Reply
from contracts.errors import Code, Rejection, RetryLater
from contracts.message import Request
from contracts.story import Pong

log = structlog.get_logger(__name__)

A = TypeVar("A", bound=BaseModel)

CLAIM_HEADER = "x-claim"  # of a request whose body was too large to travel: where it lies
LOOK_EVERY = 2.0
SURE_AFTER = 2  # looks that find only newcomers: one of several replicas may just have been started
ASK_AGAIN_AFTER = (1.0, 1.5)  # seconds without an answer to a question; then as long as the patience lasts


class Asker:
    """All that is being asked over one connection."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._pending: set[Pending] = set()

    def connection_lost(self) -> None:
        """Answers to what is being asked cannot come any more: the server lets them go out on that connection only."""
        for pending in self._pending:
            pending.give_up("the bus lost its connection before the answer came; repeat the request")

    async def ask(self, nc: Client, request: Request[Any], context: Context, patience: float) -> Reply:
        """What the owner replies. Raises RetryLater when it does not within `patience` seconds, or cannot any more."""
        if not nc.is_connected:
            raise RetryLater(2.0, "the bus is not connected")
        # what is left at its default is not sent: an owner of an older release does not know the newest fields
        body, headers = request.model_dump_json(exclude_defaults=True).encode(), context.headers()
        if len(body) > CLAIM_CHECK_BYTES:
            ref = await self._blobs.put(body, company=PASSING, content_type="application/json")
            body, headers = b"{}", headers | {CLAIM_HEADER: ref.model_dump_json()}
        with telemetry.span(request.subject(), SpanKind.CLIENT, **{"messaging.system": "nats"}):
            headers |= Context.headers(context)
            reply = Reply.model_validate_json(await self._asked(nc, request, body, headers, patience))
            if reply.claim is not None:
                reply = Reply.model_validate_json(await self._blobs.get(reply.claim))
        return reply

    async def _asked(
        self, nc: Client, request: Request[Any], body: bytes, headers: dict[str, str], patience: float
    ) -> bytes:
        try:
            async with asyncio.timeout(None) as limit:
                pending = Pending(nc, request.owner, limit)
                self._pending.add(pending)

                async def send(patience: float) -> bytes:
                    return (await nc.request(request.subject(), body, timeout=patience, headers=headers or None)).data

                try:
                    return await (send(patience) if _is_order(request) else _first_answer(send, patience))
                finally:
                    self._pending.discard(pending)
                    pending.close()
        except NoRespondersError:
            raise RetryLater(1.0, f"the service {request.owner} is not running") from None
        except (TimeoutError, NatsTimeout):
            if limit.expired():
                raise RetryLater(1.0, pending.reason) from None
            raise RetryLater(2.0, f"the service {request.owner} did not answer within {patience:g} s") from None
        except NatsError as error:
            raise RetryLater(2.0, f"the bus failed: {error!r}") from error


def _is_order(request: Request[Any]) -> bool:
    """What changes something. While one process carries it out, another would say that it is in flight."""
    return "command_id" in type(request).model_fields


async def _first_answer(send: Callable[[float], Coroutine[Any, Any, bytes]], patience: float) -> bytes:
    """To a question asked up to three times: the process that took it may be frozen, and any other says the same."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    asked: set[asyncio.Task[bytes]] = set()
    try:
        for wait in (*ASK_AGAIN_AFTER, None):
            asked.add(loop.create_task(send(max(deadline - loop.time(), 0.001))))
            done, _ = await asyncio.wait(asked, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
            if done or loop.time() >= deadline:
                break
        return await next(iter(done or asked))
    finally:
        for task in asked:
            task.cancel()


class Pending:
    """A request under way. When it takes long, somebody looks every few seconds whether anyone is left to answer it."""

    def __init__(self, nc: Client, owner: str, limit: asyncio.Timeout) -> None:
        self.reason = ""
        self._nc = nc
        self._owner = owner
        self._limit = limit
        self._looking: asyncio.Task[None] | None = None
        self._over = False
        loop = asyncio.get_running_loop()
        self._sent = loop.time()
        self._first_look = loop.call_later(LOOK_EVERY, self._begin)

    def give_up(self, reason: str) -> None:
        self.reason = reason
        self._limit.reschedule(asyncio.get_running_loop().time())

    def close(self) -> None:
        self._over = True  # nats-py waits with wait_for, which loses a cancellation that comes together with the pong
        self._first_look.cancel()
        if self._looking is not None:
            self._looking.cancel()

    def _begin(self) -> None:
        self._looking = asyncio.create_task(self._look())

    async def _look(self) -> None:
        """Until the request ends, or nobody is left who can have it: whoever answers now was started after it was sent."""
        strangers = 0
        while (uptime := await self._uptime()) is not None and not self._over:
            strangers = strangers + 1 if uptime < asyncio.get_running_loop().time() - self._sent else 0
            if strangers == SURE_AFTER:
                break
            await asyncio.sleep(LOOK_EVERY)
        if not self._over:
            self.give_up(f"the service {self._owner} went away before it answered; repeat the request")

    async def _uptime(self) -> float | None:
        """Of one of the owner's processes; None when there is none. Who does not answer may be busy with our request."""
        try:
            pong = await self._nc.request(OWNER_REQUESTS[self._owner]["ping"].subject(), b"{}", timeout=LOOK_EVERY)
            return Pong.model_validate(Reply.model_validate_json(pong.data).answer).uptime_s
        except NoRespondersError:
            return None
        except (NatsError, ValidationError) as error:
            log.debug("asking.no_pong", owner=self._owner, error=repr(error))
            return math.inf


def understood(request: Request[A], reply: Reply) -> A:
    """The answer in the reply. Raises the Rejection or RetryLater that it holds instead."""
    failure = reply.failure
    if failure is None:
        return request.answer.model_validate(reply.answer)  # type: ignore[return-value]
    if failure.code is Code.UNAVAILABLE:
        raise RetryLater(failure.retry_after or 1.0, failure.message)
    refusal = Rejection(failure.code, failure.message)
    refusal.failure = failure
    raise refusal
