"""Bytes that a service keeps: put into the object store once, under their content address, never deleted while wanted."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from chassis.blobs import Blobs, sha256_of
from chassis.objects import Kept, Objects
from chassis.postgres import Connection, Pool
from contracts.errors import Code, Rejection, RetryLater
from contracts.refs import BlobRef

GONE_SOON = 0.5  # seconds; what is wanted is being deleted
OLD = 2 * 86_400.0  # seconds; who still means to name it has done so by then
EVERY = 86_400.0  # seconds between two looks at every object there is
OCTETS = "application/octet-stream"


class Depot:
    """`want` comes first, then the puts, then `stored`; then the row that names them."""

    def __init__(self, blobs: Blobs, pool: Pool, kept: Kept) -> None:
        self.blobs = blobs
        self._kept = kept
        self._objects = Objects(pool, kept)

    def objects(self, connection: Connection | Pool) -> Objects:
        """What is on record of them, inside a transaction of the caller's."""
        return Objects(connection, self._kept)

    async def want(self, company: str, sizes: Mapping[str, int]) -> set[str]:
        """Which of these must be put; the others are there, and stay. Raises RetryLater while one is being deleted."""
        missing, doomed = await self._objects.want(company, sizes)
        if doomed:
            raise RetryLater(GONE_SOON, "the same bytes are being removed right now")
        return missing

    async def stored(self, company: str, *sha256s: str) -> None:
        await self._objects.stored(company, sha256s)

    async def keep(self, company: str, data: bytes, content_type: str) -> str:
        """Their sha256, once they are stored. Raises RetryLater while the same bytes are being deleted."""
        sha256 = hashlib.sha256(data).hexdigest()
        if await self.want(company, {sha256: len(data)}):
            await self.blobs.put(data, company=self.place(company).removesuffix("/"), content_type=content_type)
            await self.stored(company, sha256)
        return sha256

    async def keep_file(
        self, company: str, file: Path, content_type: str, *, sha256: str | None = None
    ) -> tuple[str, int]:
        """Its sha256, unless that is known, and size, once it is stored: in little memory, however large. Raises RetryLater
        likewise."""
        size = (await asyncio.to_thread(file.stat)).st_size
        known = await asyncio.to_thread(sha256_of, file) if sha256 is None else sha256
        if await self.want(company, {known: size}):
            place = self.place(company).removesuffix("/")
            await self.blobs.put_file(file, company=place, content_type=content_type, sha256=known)
            await self.stored(company, known)
        return known, size

    async def take(self, company: str, ref: BlobRef) -> None:
        """What somebody else has put in our place is ours from now on. Raises Rejection(invalid), or RetryLater when it has
        been deleted in between."""
        if ref.key != self._kept.key(company, ref.sha256):
            raise Rejection(Code.INVALID, f"the object {ref.key} is not where {self._kept.what} are stored")
        await self.want(company, {ref.sha256: ref.size})
        if not await self.blobs.holds(ref):
            raise RetryLater(GONE_SOON, "what was sent is not in the object store any more; send it again")
        await self.stored(company, ref.sha256)

    def ref(self, company: str, sha256: str, size: int, content_type: str = OCTETS) -> BlobRef:
        return BlobRef(key=self._kept.key(company, sha256), sha256=sha256, size=size, content_type=content_type)

    def place(self, company: str) -> str:
        """What all keys of the company begin with."""
        return self._kept.key(company, "")

    async def read(self, company: str, sha256: str, size: int) -> bytes:
        """All of it: for small ones."""
        return await self.blobs.get(self.ref(company, sha256, size))

    async def delete(self, company: str, sha256: str, *, unless_younger_than: float) -> None:
        """Only what is doomed, and as it was then: what somebody has stored since is theirs."""
        since = await self._objects.doomed_since(company, sha256)
        if since is not None:
            key = self._kept.key(company, sha256)
            await self.blobs.delete(key, unless_younger_than=max(unless_younger_than, since))


@dataclass(slots=True)
class Strays:
    """A rule of retention: what was put in our place and of which nobody ever said what it is, its sender having died."""

    depot: Depot
    companies: Callable[[], Awaitable[Iterable[str]]] | None = None  # beside those on record
    old: float = OLD
    every: float = EVERY
    name: str = "strays"
    _next: float = field(default=0.0, init=False)

    async def step(self, connection: Connection, most: int) -> int:
        """All of them at once, and then for a day nothing."""
        if time.monotonic() < self._next:
            return 0
        objects = self.depot.objects(connection)
        companies = await self._companies(objects)
        gone = sum([await self._delete_of(objects, company) for company in companies])
        self._next = time.monotonic() + self.every
        for company in companies:
            gone += await self.depot.blobs.abandon(self.depot.place(company), self.old)
        return gone

    async def _companies(self, objects: Objects) -> list[str]:
        others = () if self.companies is None else await self.companies()
        return sorted({*await objects.companies(), *others})

    async def _delete_of(self, objects: Objects, company: str) -> int:
        place, gone = self.depot.place(company), 0
        async for keys in self.depot.blobs.pages(place, self.old):
            doomed = await objects.doom_unknown(company, [key.removeprefix(place) for key in keys])
            for sha256 in doomed:
                await self.depot.delete(company, sha256, unless_younger_than=self.old)
            await objects.forget(company, doomed)
            gone += len(doomed)
        return gone
