"""Who calls? Checks the API key before anything else of the request is read, and takes it out of the URL."""

from __future__ import annotations

from dataclasses import dataclass
from secrets import compare_digest
from urllib.parse import parse_qsl, urlencode

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from contracts.errors import Code, Rejection
from contracts.refs import DEFAULT_COMPANY
from services.gateway.domain import roles
from services.gateway.domain.roles import Role
from services.gateway.routes import docs

PARAMETER = "api_key"
OPEN_PATHS = frozenset({"/health", "/livez", "/readyz", "/openapi.json", "/"}) | docs.OPEN_PATHS


@dataclass(frozen=True, slots=True)
class Caller:
    """`key_id` names the key; it is no secret."""

    key_id: str
    role: Role
    company: str = DEFAULT_COMPANY


class Keyless(FastAPI):
    """`?api_key=` becomes a header before any log, trace or error report can see the URL."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and PARAMETER.encode() in scope["query_string"]:
            _move_key_to_header(scope)
        await super().__call__(scope, receive, send)


def _move_key_to_header(scope: Scope) -> None:
    query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True, encoding="latin-1")
    keys = [value for name, value in query if name == PARAMETER]
    scope["query_string"] = urlencode([pair for pair in query if pair[0] != PARAMETER], encoding="latin-1").encode(
        "ascii"
    )
    if keys and "x-api-key" not in Headers(scope=scope):
        scope["headers"] = [*scope["headers"], (b"x-api-key", keys[0].encode("latin-1"))]


class Authenticate:
    """Puts a Caller into the request's state, or refuses."""

    def __init__(self, app: ASGIApp, *, key: str, required: bool, rbac: bool) -> None:
        self.app = app
        self._key = key.encode()
        self._required = required
        self._rbac = rbac

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            headers = Headers(scope=scope)
            key_id = self._key_id(headers.get("x-api-key"))
            role = roles.effective(Role.ADMIN, headers.get("x-role"))
            roles.require(role, roles.needed_for(scope["method"], rbac=self._rbac))
            scope["state"]["caller"] = Caller(key_id, role)
        await self.app(scope, receive, send)

    def _key_id(self, given: str | None) -> str:
        if given is not None and compare_digest(given.encode("latin-1"), self._key):
            return "env"
        if not self._required:
            return "anonymous"
        if given is None:
            raise Rejection(
                Code.UNAUTHENTICATED, "send your API key in the X-API-Key header (or ?api_key= for EventSource)"
            )
        raise Rejection(Code.UNAUTHENTICATED, "this API key is not valid")
