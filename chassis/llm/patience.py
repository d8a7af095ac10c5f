"""The clocks of a model call: how long we wait for the first piece, between pieces, and in all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from chassis.llm.call import ModelFailure
from chassis.llm.provider import Piece


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds. Without streaming an answer comes in one piece, so only `total` applies."""

    total: float
    first: float
    idle: float

    def limit(self, pieces: int, now: float, deadline: float) -> tuple[float, str]:
        """Until when we wait for the next piece, and what to say when it does not come."""
        wanted, what = (self.first, "no first token") if pieces == 0 else (self.idle, "no further token")
        if deadline <= now + wanted:
            return deadline, f"no complete answer within {round(self.total, 2):g} s"
        return now + wanted, f"{what} within {wanted:g} s"


async def patiently(pieces: AsyncGenerator[Piece], patience: Patience, who: str) -> AsyncGenerator[Piece]:
    """The pieces, or ModelFailure(timeout). Leaving early, for whatever reason, closes the request."""
    clock = asyncio.get_running_loop().time
    deadline, count = clock() + patience.total, 0
    async with aclosing(pieces):
        while True:
            until, complaint = patience.limit(count, clock(), deadline)
            try:
                async with asyncio.timeout_at(until) as limit:
                    piece = await anext(pieces)
            except StopAsyncIteration:
                return
            except TimeoutError:
                if not limit.expired():
                    raise
                at_work = count > 0 and until == deadline
                raise ModelFailure("timeout", f"{who}: {complaint}", at_work=at_work) from None
            count += 1
            yield piece
