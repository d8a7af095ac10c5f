"""Asks the owner of an answer in the caller's name, and shows the answer in the caller's zone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar
from zoneinfo import ZoneInfo

from pydantic import BaseModel

from chassis.bus import Bus
from chassis.context import Context
from contracts.message import Request
from services.gateway.domain.times import shown_in

A = TypeVar("A", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Desk:
    """Raises what the owner answered (Rejection), or RetryLater when nobody does."""

    bus: Bus
    context: Context
    zone: ZoneInfo | None

    async def ask(self, request: Request[A]) -> A:
        return shown_in(await self.bus.ask(request, self.context), self.zone)
