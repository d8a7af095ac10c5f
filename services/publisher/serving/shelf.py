"""The bytes that are served: those asked for last in memory, also compressed; what is large passes through."""

from __future__ import annotations

import asyncio
import gzip
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable

from chassis.depot import Depot
from chassis.outage import Outage
from contracts.artifacts import object_key
from contracts.errors import Rejection, RetryLater
from services.publisher.serving.sites import Away

PATIENCE = 5.0  # seconds for the object store
LARGEST_KEPT = 4 * 2**20  # bytes of one file
SMALLEST_PACKED = 1024  # bytes; less fits into a packet or two as it is
A_MOMENT = 64 * 1024  # bytes that are compressed within a millisecond or two
LEVEL = 6

Key = tuple[str, str, bool]  # company, sha256, packed


class Shelf:
    """`most` in bytes. None of it is ever out of date: bytes are named by what they are."""

    def __init__(self, depot: Depot, most: int) -> None:
        self._depot = depot
        self._most = most
        self._kept: OrderedDict[Key, bytes] = OrderedDict()
        self._size = 0
        self._under_way: dict[Key, asyncio.Future[bytes]] = {}
        self._outage = Outage("previews.store")

    def keeps(self, size: int) -> bool:
        """What it does not is to be streamed."""
        return size <= min(LARGEST_KEPT, self._most // 4)

    def at_hand(self, company: str, sha256: str, *, packed: bool = False) -> bytes | None:
        key = (company, sha256, packed)
        if (found := self._kept.get(key)) is not None:
            self._kept.move_to_end(key)
        return found

    async def read(self, company: str, sha256: str, size: int) -> bytes:
        """Raises Away."""
        key = (company, sha256, False)
        return self.at_hand(company, sha256) or await self._once(key, self._fetched(company, sha256, size))

    async def packed(self, company: str, sha256: str, size: int) -> bytes:
        """The same, compressed. Raises Away."""
        found = self.at_hand(company, sha256, packed=True)
        if found is not None:
            return found
        data = await self.read(company, sha256, size)
        return await self._once((company, sha256, True), _packed(data))

    async def stream(self, company: str, sha256: str, first: int, last: int) -> AsyncIterator[bytes]:
        """Bytes `first` to `last`, as they come; the first piece is there when this returns. Raises Away."""
        pieces = self._depot.blobs.pieces(object_key(company, sha256), first, last)
        beginning = await self._asked(anext(pieces, b""))

        async def rest() -> AsyncIterator[bytes]:
            yield beginning
            async for piece in pieces:
                yield piece

        return rest()

    async def _fetched(self, company: str, sha256: str, size: int) -> bytes:
        return await self._asked(self._depot.read(company, sha256, size))

    async def _asked(self, answer: Awaitable[bytes]) -> bytes:
        try:
            async with asyncio.timeout(PATIENCE):
                found = await answer
        except (RetryLater, TimeoutError) as error:
            self._outage.noticed(error)
            raise Away("the object store does not answer") from error
        except Rejection as gone:
            self._outage.noticed(gone)
            raise Away("the object store has lost a file of this preview") from gone
        self._outage.over()
        return found

    async def _once(self, key: Key, work: Awaitable[bytes]) -> bytes:
        """However many ask at the same time, it is done once."""
        doing = self._under_way.get(key)
        if doing is None:
            doing = self._under_way[key] = asyncio.ensure_future(work)
            doing.add_done_callback(lambda _: self._under_way.pop(key, None))
        elif asyncio.iscoroutine(work):
            work.close()
        data = await asyncio.shield(doing)
        self._keep(key, data)
        return data

    def _keep(self, key: Key, data: bytes) -> None:
        if key in self._kept or not self.keeps(len(data)):
            return
        self._kept[key] = data
        self._size += len(data)
        while self._size > self._most:
            _, gone = self._kept.popitem(last=False)
            self._size -= len(gone)


async def _packed(data: bytes) -> bytes:
    if len(data) <= A_MOMENT:
        return gzip.compress(data, LEVEL, mtime=0)
    return await asyncio.to_thread(gzip.compress, data, LEVEL, mtime=0)
