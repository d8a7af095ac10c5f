"""Who of the owners answers? Asked at most once a second, however many ask us."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Literal

from chassis.bus import Bus
from chassis.context import Context
from contracts.catalog import OWNER_REQUESTS
from contracts.errors import Rejection, RetryLater

OWNERS = tuple(owner for owner in OWNER_REQUESTS if owner != "gateway")
FRESH = 1.0


@dataclass(slots=True)
class Presence:
    bus: Bus
    _owners: dict[str, bool] = field(default_factory=dict)
    _at: float = float("-inf")
    _complete: bool = False  # everybody has answered at least once
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def owners(self) -> dict[str, bool]:
        async with self._asking:
            if time.monotonic() - self._at > FRESH:
                answers = await asyncio.gather(*(self._answers(owner) for owner in OWNERS))
                self._owners, self._at = dict(zip(OWNERS, answers, strict=True)), time.monotonic()
                self._complete = self._complete or all(answers)
            return self._owners

    def status(self, *, well: bool) -> Literal["ok", "starting", "degraded"]:
        if well:
            return "ok"
        return "degraded" if self._complete else "starting"

    async def _answers(self, owner: str) -> bool:
        try:
            pong = await self.bus.ask(OWNER_REQUESTS[owner]["ping"](), Context())
        except (Rejection, RetryLater):
            return False
        return bool(pong.ready)
