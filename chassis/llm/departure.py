"""The last look before a request leaves: the moment between a connection that stands and the first byte on it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

BeforeSending = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class Clearance:
    """Awaited by a provider when all is ready but the first byte. Whoever holds it up keeps the request from leaving;
    cancelling then closes the connection."""

    before_sending: BeforeSending | None = None
    sent: bool = False

    async def __call__(self) -> None:
        if self.before_sending is not None:
            await self.before_sending()
        self.sent = True


#: SDKs hand nothing of ours down to their HTTP client, but they call it in the context of their caller
_CLEARANCE: ContextVar[Clearance | None] = ContextVar("clearance", default=None)


@contextmanager
def cleared_by(clearance: Clearance) -> Iterator[None]:
    """Requests of a `HOOKS` client that are sent in here leave when `clearance` lets them."""
    token = _CLEARANCE.set(clearance)
    try:
        yield
    finally:
        _CLEARANCE.reset(token)


async def _watch(request: Any) -> None:
    """Nothing awaits between this event and the write to the socket (httpcore2, anyio): what is looked at here holds."""
    clearance = _CLEARANCE.get()
    if clearance is None:
        return

    async def look(event: str, _: Any) -> None:
        if event.endswith(".send_request_headers.started"):
            await clearance()

    request.extensions = {**request.extensions, "trace": look}


#: `event_hooks` of an HTTP client
HOOKS = {"request": [_watch]}
