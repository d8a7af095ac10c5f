"""The bytes of deliverables: put into the object store once, under their content address, and never deleted while wanted."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from chassis.blobs import Blobs
from chassis.postgres import Pool
from contracts.artifacts import object_key
from contracts.errors import Code, Rejection, RetryLater
from contracts.refs import BlobRef
from services.publisher.store.objects import ObjectStore

GONE_SOON = 0.5  # seconds; a sweeper is deleting what is wanted


class Depot:
    """`want` comes first, then the puts, then `stored`; then the row that names them."""

    def __init__(self, blobs: Blobs, pool: Pool) -> None:
        self.blobs = blobs
        self._objects = ObjectStore(pool)

    async def want(self, company: str, sizes: Mapping[str, int]) -> set[str]:
        """Which of these must be put; the others are there, and stay. Raises RetryLater while one is being deleted."""
        missing, doomed = await self._objects.want(company, sizes)
        if doomed:
            raise RetryLater(GONE_SOON, "the same bytes are being removed right now")
        return missing

    async def stored(self, company: str, *sha256s: str) -> None:
        await self._objects.stored(company, sha256s)

    async def keep(self, company: str, data: bytes, content_type: str) -> str:
        """Their sha256, once they are stored."""
        sha256 = hashlib.sha256(data).hexdigest()
        if await self.want(company, {sha256: len(data)}):
            await self.blobs.put(data, company=f"{company}/artifacts", content_type=content_type)
            await self.stored(company, sha256)
        return sha256

    async def take(self, company: str, ref: BlobRef) -> None:
        """What somebody else has put in the place of deliverables is ours from now on. Raises Rejection(invalid)."""
        if ref.key != object_key(company, ref.sha256):
            raise Rejection(Code.INVALID, f"the object {ref.key} is not where deliverables are stored")
        await self.want(company, {ref.sha256: ref.size})
        await self.stored(company, ref.sha256)

    def ref(self, company: str, sha256: str, size: int, content_type: str) -> BlobRef:
        return BlobRef(key=object_key(company, sha256), sha256=sha256, size=size, content_type=content_type)

    async def read(self, company: str, sha256: str, size: int) -> bytes:
        """All of it: for small ones."""
        return await self.blobs.get(self.ref(company, sha256, size, "application/octet-stream"))
