"""The last looks before a request leaves: between a connection that stands and the first byte, and before the body."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from chassis.llm.call import Cost

UNKNOWN = Cost(None, "its price was not looked up")


@dataclass(slots=True)
class Clearance:
    """Awaited by a provider when nothing is left but to send. Whoever holds it up keeps the request from leaving;
    cancelling then closes the connection. `most` is what the call can cost at most, `came_to` what it has cost, once that
    is known."""

    before_sending: BeforeSending | None = None
    sent: bool = False
    most: Cost = UNKNOWN
    came_to: Cost | None = None

    async def look(self) -> None:
        if self.before_sending is not None:
            await self.before_sending(self)

    async def __call__(self) -> None:
        await self.look()
        self.sent = True


#: is told of the clearance of its call, of which it may look later whether it was sent
BeforeSending = Callable[[Clearance], Awaitable[None]]

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
    """Nothing awaits between these events and the writes to the socket (httpcore2, anyio): what is looked at here holds.
    After the head the event loop goes round before the body follows, and a request without its body is none."""
    clearance = _CLEARANCE.get()
    if clearance is None:
        return

    async def look(event: str, _: Any) -> None:
        if event.endswith(".send_request_headers.started"):
            await clearance.look()
        elif event.endswith(".send_request_body.started"):
            await clearance()

    request.extensions = {**request.extensions, "trace": look}


#: `event_hooks` of an HTTP client
HOOKS = {"request": [_watch]}
