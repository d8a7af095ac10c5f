"""Strays: what was stored where documents lie, and of which nobody ever said what it is: a sender died in between."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from chassis.blobs import Blobs
from chassis.postgres import Connection
from contracts.knowledge import document_key
from services.rag.store.objects import ObjectStore

OLD = 2 * 86_400.0  # seconds; who still means to name it has done so by then
EVERY = 86_400.0  # seconds between two looks at every object there is


@dataclass(slots=True)
class Strays:
    """A rule of retention."""

    blobs: Blobs
    old: float = OLD
    every: float = EVERY
    name: str = "strays"
    _next: float = field(default=0.0, init=False)

    async def step(self, connection: Connection, most: int) -> int:
        """All of them at once, and then for a day nothing."""
        if time.monotonic() < self._next:
            return 0
        store = ObjectStore(connection)
        gone = sum([await self._delete_of(store, company) for company in await store.companies()])
        self._next = time.monotonic() + self.every
        return gone

    async def _delete_of(self, store: ObjectStore, company: str) -> int:
        place, gone = document_key(company, ""), 0
        async for keys in self.blobs.pages(place, self.old):
            for sha256 in await store.unknown(company, [key.removeprefix(place) for key in keys]):
                await self.blobs.delete(document_key(company, sha256), unless_younger_than=self.old)
                gone += 1
        return gone
