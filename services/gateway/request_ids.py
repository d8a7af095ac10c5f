"""The request id: taken from the client when it is fit to be logged, made up otherwise, echoed on every answer."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from uuid import uuid4

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contracts.errors import Code, Failure
from services.gateway.problems import problem

HEADER = "x-request-id"
PATTERN = re.compile(r"^[\x21-\x7e]{1,128}$")


class RequestIds:
    """Leaves `request_id`, `request_id_given` and `received_at` in the request's state."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER)
        fit = given is not None and PATTERN.match(given) is not None
        request_id = given if given is not None and fit else uuid4().hex
        scope.setdefault("state", {}).update(request_id=request_id, request_id_given=fit, received_at=datetime.now(UTC))

        async def echo(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            if given is None or fit:
                await self.app(scope, receive, echo)
                return
            text = "X-Request-ID must be 1 to 128 printable ASCII characters without spaces"
            await problem(request_id, Failure(code=Code.BAD_REQUEST, message=text))(scope, receive, echo)
