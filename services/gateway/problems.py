"""How refusals look over HTTP: codes to statuses in one dict, RFC 9457 members beside FastAPI's `detail`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from math import ceil
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis import telemetry
from chassis.postgres import CONNECTION_LOST
from contracts.catalog import REQUESTS
from contracts.errors import Code, Failure, Rejection, RetryLater

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"
MOST_ERRORS = 50  # that one answer names
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")

STATUS: Mapping[Code, int] = {
    Code.BAD_REQUEST: 400,
    Code.INVALID: 422,
    Code.UNAUTHENTICATED: 401,
    Code.FORBIDDEN: 403,
    Code.NOT_FOUND: 404,
    Code.TITLE_TAKEN: 409,
    Code.ID_TAKEN: 409,
    Code.PLAN_MISSING: 409,
    Code.PLAN_NOT_READY: 409,
    Code.RUN_ACTIVE: 409,
    Code.ILLEGAL_STATE: 409,
    Code.NOTHING_TO_SKIP: 400,
    Code.CYCLE: 409,
    Code.PAUSED: 409,
    Code.CANCELED: 409,
    Code.WAITS_FOR_TASKS: 409,
    Code.VERDICT_TAKEN: 409,
    Code.OVER_BUDGET: 409,
    Code.IDEMPOTENCY_MISMATCH: 422,
    Code.IN_FLIGHT: 409,
    Code.METHOD_NOT_ALLOWED: 405,
    Code.NOT_ACCEPTABLE: 406,
    Code.REQUEST_TIMEOUT: 408,
    Code.TOO_LARGE: 413,
    Code.UNSUPPORTED_MEDIA_TYPE: 415,
    Code.RATE_LIMITED: 429,
    Code.UNAVAILABLE: 503,
    Code.INTERNAL: 500,
}
#: what an HTTP status of the framework's own means in our codes
CODE_OF_STATUS: Mapping[int, Code] = {
    404: Code.NOT_FOUND,
    406: Code.NOT_ACCEPTABLE,
    408: Code.REQUEST_TIMEOUT,
    413: Code.TOO_LARGE,
    415: Code.UNSUPPORTED_MEDIA_TYPE,
    503: Code.UNAVAILABLE,
}
#: what is made of a client's words; whatever else turns out invalid is a bug of ours
ASKED = frozenset(request.__name__ for request in REQUESTS)
RETRY_AFTER: Mapping[Code, float] = {Code.UNAVAILABLE: 1.0, Code.IN_FLIGHT: 1.0}


EXAMPLES: Mapping[int, tuple[Failure, ...]] = {
    404: (Failure(code=Code.NOT_FOUND, message="there is no run 00000000-0000-4000-8000-000000000000"),),
    409: (
        Failure(
            code=Code.ILLEGAL_STATE,
            message="the run is completed; pause is not possible, nothing can be ordered any more",
            details={"state": "completed", "legal": []},
        ),
        Failure(
            code=Code.RUN_ACTIVE,
            message="run 00000000-0000-4000-8000-000000000000 of this task is still active",
            details={"run_id": "00000000-0000-4000-8000-000000000000"},
        ),
    ),
}


class FieldError(BaseModel):
    """One wrong field, in FastAPI's own shape."""

    type: str
    loc: list[str | int]
    msg: str


class Problem(BaseModel):
    """RFC 9457 beside FastAPI's `detail`, which is a text, or for 422 a list of wrong fields."""

    type: str = Field(examples=["urn:fluidcrew:problem:not_found"])
    title: str
    status: int
    code: Code
    detail: str | list[FieldError]
    details: dict[str, Any] = Field(default_factory=dict, description="What the owner adds, such as `run_id`")
    request_id: str


class Malformed(Rejection):
    """The body cannot be read at all; `errors` says where."""

    def __init__(self, message: str, *loc: str | int, type: str = "json_invalid") -> None:
        error = FieldError(type=type, loc=["body", *loc], msg=message)
        super().__init__(Code.INVALID, message, errors=[error.model_dump()])


def describe(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses=` of a route for the statuses with which it may refuse."""
    return {s: {"description": HTTPStatus(s).phrase, "content": {MEDIA_TYPE: _described(s)}} for s in statuses}


def _described(status: int) -> dict[str, Any]:
    examples = {failure.code: {"value": body_of(failure, "4f1c")} for failure in EXAMPLES.get(status, ())}
    return {"schema": {"$ref": "#/components/schemas/Problem"}} | ({"examples": examples} if examples else {})


def _errors_of(failure: Failure) -> list[dict[str, Any]]:
    """Whatever shape an owner gave its list of errors, as FastAPI would have written it."""
    found = failure.details.get("errors") or [failure.message]
    return [
        {
            "type": str(e.get("type", failure.code)),
            "loc": [part if isinstance(part, int) else str(part) for part in e.get("loc", ())],
            "msg": str(e.get("msg", failure.message)),
        }
        if isinstance(e, dict)
        else {"type": failure.code.value, "loc": [], "msg": str(e)}
        for e in found
    ]


def body_of(failure: Failure, request_id: str, status: int | None = None) -> dict[str, Any]:
    status = status or STATUS[failure.code]
    return {
        "type": f"urn:fluidcrew:problem:{failure.code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": failure.code.value,
        "detail": _errors_of(failure) if status == 422 else failure.message,
        "details": {k: v for k, v in failure.details.items() if k != "errors"},
        "request_id": request_id,
    }


def problem(
    request_id: str, failure: Failure, *, status: int | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    status = status or STATUS[failure.code]
    body = body_of(failure, request_id, status)
    extra = dict(headers or {})
    if status == 401:
        extra["WWW-Authenticate"] = "ApiKey"
    if status == 408:
        extra["Connection"] = "close"  # whatever may still come on it is no request
    if delay := failure.retry_after or RETRY_AFTER.get(failure.code):
        extra["Retry-After"] = str(ceil(delay))
    return JSONResponse(body, status, headers=extra, media_type=MEDIA_TYPE)


def request_id_of(scope: Scope) -> str:
    return str(scope.get("state", {}).get("request_id", ""))


def _clean(errors: Sequence[Any]) -> list[dict[str, Any]]:
    """Without `input` and `ctx`: an echo of lone surrogates or objects could not be encoded. A body can hold a hundred
    thousand mistakes, which nobody reads."""
    told = [{"type": e["type"], "loc": list(e["loc"]), "msg": str(e["msg"])} for e in errors[:MOST_ERRORS]]
    if (more := len(errors) - len(told)) > 0:
        told.append({"type": "more", "loc": ["body"], "msg": f"and {more:,} more; mend these first"})
    return told


def of_exception(request_id: str, error: Exception) -> Response | None:
    """The answer to an exception that is none of our bugs."""
    if isinstance(error, Rejection | RetryLater):
        return problem(request_id, error.failure)
    if isinstance(error, RequestValidationError):
        return problem(
            request_id, Failure(code=Code.INVALID, message="invalid", details={"errors": _clean(error.errors())})
        )
    if isinstance(error, ValidationError) and error.title in ASKED:
        log.warning("http.unasked", request=error.title)  # the route's own schema should have refused it
        return problem(
            request_id, Failure(code=Code.INVALID, message="invalid", details={"errors": _clean(error.errors())})
        )
    if isinstance(error, HTTPException):
        code = CODE_OF_STATUS.get(error.status_code, Code.BAD_REQUEST)
        failure = Failure(code=code, message=str(error.detail))
        return problem(request_id, failure, status=error.status_code, headers=error.headers)
    if isinstance(error, CONNECTION_LOST):
        log.warning("database.unavailable", error=str(error))
        failure = Failure(code=Code.UNAVAILABLE, message="the gateway cannot reach its database; try again")
        return problem(request_id, failure)
    return None


async def _handle(request: Request, error: Exception) -> Response:
    response = of_exception(request_id_of(request.scope), error)
    if response is None:
        raise error
    return response


async def _handle_wrong_method(request: Request, _: Exception) -> Response:
    """The framework's own `Allow` names the methods of one route; a path may have several."""
    allowed = methods_of(request)
    text = f"{request.method} is not possible here; this path has {', '.join(allowed)}"
    failure = Failure(code=Code.METHOD_NOT_ALLOWED, message=text, details={"allowed": allowed})
    return problem(request_id_of(request.scope), failure, headers={"Allow": ", ".join(allowed)})


def methods_of(request: Request) -> list[str]:
    scopes = {method: {**request.scope, "method": method} for method in METHODS}
    routes = request.app.routes
    return [m for m, scope in scopes.items() if any(route.matches(scope)[0] is Match.FULL for route in routes)]


def install(app: FastAPI) -> None:
    for kind in (Rejection, RetryLater, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, _handle)
    app.add_exception_handler(405, _handle_wrong_method)


class AnswerEverything:
    """Innermost of the middleware that sees exceptions: a bug becomes a logged 500 problem, not a torn connection."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, watch)
        except Exception as error:
            if started or scope["type"] != "http":
                raise
            response = of_exception(request_id_of(scope), error) or self._bug(scope, error)
            await response(scope, receive, send)

    @staticmethod
    def _bug(scope: Scope, error: Exception) -> Response:
        log.exception("http.bug", method=scope["method"], path=scope["path"])
        telemetry.report(error, request_id=request_id_of(scope))
        text = "a bug on our side; the log knows more under this request id"
        return problem(request_id_of(scope), Failure(code=Code.INTERNAL, message=text))
