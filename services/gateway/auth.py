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
from services.gateway.domain.hosts import is_own_name
from services.gateway.domain.roles import Role

PARAMETER = "api_key"


@dataclass(frozen=True, slots=True)
class Caller:
    """`key_id` names the key; it is no secret."""

    key_id: str
    role: Role
    company: str = DEFAULT_COMPANY


def company_for(caller: Caller, named: str | None) -> str:
    """The company a call is about: the one in its path, else the caller's. Every key may use every company today;
    what a key may not use is refused here."""
    return named or caller.company


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


class OwnNames:
    """Stands before an API that is open to all: a website whose name was made to lead here (DNS rebinding) is nobody."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not is_own_name(host := Headers(scope=scope).get("host", "")):
            raise Rejection(
                Code.FORBIDDEN,
                f"without an API_KEY of your own the API answers to localhost only, not to {host[:100]!r}; set one",
            )
        await self.app(scope, receive, send)


class Authenticate:
    """Puts a Caller into the request's state, or refuses. Whatever `open_paths` names needs no key."""

    def __init__(self, app: ASGIApp, *, key: str, required: bool, rbac: bool, open_paths: frozenset[str]) -> None:
        self.app = app
        self._key = key.encode()
        self._required = required
        self._rbac = rbac
        self._open_paths = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in self._open_paths:
            headers = Headers(scope=scope)
            key_id = self._key_id(headers.get("x-api-key"))
            role = roles.effective(Role.ADMIN, headers.get("x-role"))
            roles.require(role, roles.needed_for(scope["method"], scope["path"], rbac=self._rbac))
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
