"""Streams a node's text to whoever watches: pieces gathered for a moment, then told once; best effort."""

from __future__ import annotations

import asyncio
from uuid import UUID

from chassis.bus import Bus
from contracts.run_facts import NodeToken
from services.executor.domain.graph import Plan

GATHERING_SECONDS = 0.05


class TokenStream:
    """One attempt's text. A model writes hundreds of pieces a second; nobody reads faster than twenty times."""

    def __init__(self, bus: Bus, company: str, run_id: UUID, node: Plan, attempt: int) -> None:
        self._bus = bus
        self._company, self._run_id, self._node, self._attempt = company, run_id, node, attempt
        self._gathered: list[str] = []
        self._index = 0
        self._next = 0.0

    async def feed(self, piece: str) -> None:
        self._gathered.append(piece)
        if asyncio.get_running_loop().time() >= self._next:
            await self.flush()

    async def flush(self) -> None:
        """Tell what was gathered. The last call is the caller's: the end of a text is not held back."""
        text, self._gathered = "".join(self._gathered), []
        if not text:
            return
        self._next = asyncio.get_running_loop().time() + GATHERING_SECONDS
        token = NodeToken(
            company=self._company,
            run_id=self._run_id,
            node_id=self._node.id,
            key=self._node.key,
            attempt=self._attempt,
            index=self._index,
            text=text,
        )
        self._index += 1
        await self._bus.live(token)
