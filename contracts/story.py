"""What every owner answers besides its own business: is it there, say that again, and what did it give up on."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, Field

from contracts.message import Request
from contracts.page import Page, PageRequest
from contracts.refs import Value


class Pong(Value):
    service: str
    version: str
    ready: bool
    uptime_s: float


class Resent(Value):
    """`gone` are sequence numbers that the owner's outbox no longer holds: nobody shall wait for them."""

    sent: list[int]
    gone: list[int]


class DeadLetter(Value):
    """A message that a consumer gave up on, with its original bytes as text when they are UTF-8."""

    id: UUID
    durable: str
    subject: str
    reason: str
    attempts: int
    created_at: AwareDatetime
    replayed_at: AwareDatetime | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    body: str | None = None


class Replayed(Value):
    id: UUID
    message_id: UUID
    outcome: str


def owner_requests(owner: str) -> dict[str, type[Request[Any]]]:
    """The requests every owner answers, as classes addressed to this one."""

    class Ping(Request[Pong], owner=owner, entity="service", verb="ping", patience=2.0): ...

    class ResendFacts(Request[Resent], owner=owner, entity="story", verb="resend"):
        """Publish the facts `first..last` (inclusive) of a story again."""

        story: str
        first: int = Field(ge=1)
        last: int = Field(ge=1)

    class ListDeadLetters(PageRequest[Page[DeadLetter]], owner=owner, entity="dead_letter", verb="list"): ...

    class GetDeadLetter(Request[DeadLetter], owner=owner, entity="dead_letter", verb="get"):
        id: UUID

    class ReplayDeadLetter(Request[Replayed], owner=owner, entity="dead_letter", verb="replay", patience=10.0):
        id: UUID

    return {
        c.verb if c.entity != "dead_letter" else f"dead_letter_{c.verb}": c
        for c in (Ping, ResendFacts, ListDeadLetters, GetDeadLetter, ReplayDeadLetter)
    }


class Floor(BaseModel):
    """What every durable consumer of a stream has passed, as the keeper publishes it (`sig.keeper.floor`)."""

    stream: str
    created: AwareDatetime
    sequence: int
