"""Asks the owner of an answer in the caller's name, and shows the answer in the caller's zone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar
from zoneinfo import ZoneInfo

from pydantic import BaseModel
from starlette.datastructures import MutableHeaders

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
    company: str  # whose things are asked about
    zone: ZoneInfo | None
    headers: MutableHeaders  # of the response

    async def ask(self, request: Request[A]) -> A:
        addressed = request.model_copy(update={"company": self.company})
        return shown_in(await self.bus.ask(addressed, self.context, on_replay=self._say_replayed), self.zone)

    def _say_replayed(self) -> None:
        self.headers["Idempotent-Replayed"] = "true"
