"""Answering a request: whatever happens in the handler, its caller gets one reply envelope."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import asyncpg
import structlog
from faststream.nats import NatsMessage
from opentelemetry.trace import SpanKind
from pydantic import BaseModel, TypeAdapter, ValidationError

from chassis import telemetry
from chassis.asking import CLAIM_HEADER
from chassis.blobs import PASSING, Blobs
from chassis.context import Context
from chassis.outage import Outage
from chassis.postgres import server_is_away
from chassis.unit_of_work import REPLAYED, Answered
from contracts.envelope import REPLY_LIMIT_BYTES, Reply
from contracts.errors import Code, Failure, Rejection, RetryLater
from contracts.message import Request
from contracts.refs import BlobRef

log = structlog.get_logger(__name__)

MOST_DEADLOCKS = 3

RequestHandler = Callable[[Any, Context], Awaitable[BaseModel]]


class Answerer:
    """One kind of request and who handles it; called with each message, it returns the reply's bytes."""

    def __init__(self, service: str, blobs: Blobs, request: type[Request[Any]], handler: RequestHandler) -> None:
        self._service = service
        self._blobs = blobs
        self._pattern = request.subject()
        self._adapter: TypeAdapter[Any] = TypeAdapter(request)
        self._handler = handler
        self._database = Outage("request.database", pattern=self._pattern)

    async def answer(self, message: NatsMessage) -> bytes:
        pattern, began = self._pattern, time.perf_counter()
        context = Context.from_headers(message.headers)
        with (
            structlog.contextvars.bound_contextvars(request_id=context.request_id),
            telemetry.span(pattern, SpanKind.SERVER, context.traceparent, **{"messaging.system": "nats"}),
        ):
            body, outcome = await self._reply(message, context)
        seconds = time.perf_counter() - began
        telemetry.HANDLED.labels(pattern, outcome).inc()
        telemetry.DURATION.labels(pattern).observe(seconds)
        log.debug("request.handled", pattern=pattern, outcome=outcome, ms=round(seconds * 1000, 1))
        return body

    async def _reply(self, message: NatsMessage, context: Context) -> tuple[bytes, str]:
        """Whatever happens, the caller gets an answer: nobody shall wait for one that never comes."""
        try:
            reply, outcome = await self._handled(message, context)
            self._database.over()
            return await self._fitting(reply), outcome
        except RetryLater as away:  # the object store that a large answer needs
            failure, outcome = away.failure, "refused"
        except Exception as error:  # noqa: BLE001 – and it must be told
            failure, outcome = self._broken(error, context)
        return Reply(failure=failure).model_dump_json(exclude_none=True).encode(), outcome

    def _broken(self, error: Exception, context: Context) -> tuple[Failure, str]:
        if server_is_away(error) or isinstance(error, TimeoutError):  # of a statement: the same order again is safe
            self._database.noticed(error)
            hint = f"the service {self._service} cannot reach its database right now; repeat the request"
            return RetryLater(2.0, hint).failure, "refused"
        log.error("request.failed", pattern=self._pattern, exc_info=error)
        telemetry.report(error, pattern=self._pattern, request_id=context.request_id)
        hint = f"{self._service} failed on this request; its log has the cause"
        return Failure(code=Code.INTERNAL, message=hint), "failed"

    async def _handled(self, message: NatsMessage, context: Context) -> tuple[Reply, str]:
        REPLAYED.set(False)
        try:
            body = await self._body(message.body, message.headers)
            answer = (await self._undisturbed(self._adapter.validate_json(body), context)).model_dump(mode="json")
        except Answered as before:
            answer = before.answer
        except (Rejection, RetryLater) as refusal:
            return Reply(failure=refusal.failure), "refused"
        except ValidationError as error:
            return Reply(failure=_invalid(error)), "refused"
        if REPLAYED.get():
            return Reply(answer=answer, replayed=True), "repeated"
        return Reply(answer=answer), "answered"

    async def _undisturbed(self, request: Any, context: Context) -> BaseModel:
        """Once more when Postgres broke a deadlock at this request's cost: nothing of it was written."""
        for _ in range(MOST_DEADLOCKS):
            try:
                return await self._handler(request, context)
            except asyncpg.DeadlockDetectedError as error:
                log.warning("request.deadlocked", pattern=self._pattern, error=str(error))
        return await self._handler(request, context)

    async def _fitting(self, reply: Reply) -> bytes:
        body = reply.model_dump_json(exclude_none=True).encode()
        if len(body) <= REPLY_LIMIT_BYTES:
            return body
        ref = await self._blobs.put(body, company=PASSING, content_type="application/json")
        return Reply(claim=ref).model_dump_json(exclude_none=True).encode()

    async def _body(self, body: bytes, headers: Mapping[str, str]) -> bytes:
        if (claim := headers.get(CLAIM_HEADER)) is None:
            return body
        return await self._blobs.get(BlobRef.model_validate_json(claim))


def _invalid(error: ValidationError) -> Failure:
    problems = [
        {"loc": list(p["loc"]), "msg": p["msg"], "type": p["type"]}
        for p in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    return Failure(code=Code.INVALID, message="the request does not fit its schema", details={"errors": problems})
