"""The bytes of documents and the texts read from them: put into the object store once, under their content address."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from chassis.blobs import Blobs
from chassis.postgres import Pool
from contracts.errors import Code, Rejection, RetryLater
from contracts.knowledge import document_key
from contracts.refs import BlobRef
from services.rag.store.objects import ObjectStore

GONE_SOON = 0.5  # seconds; what is wanted is being deleted
UNKNOWN = "application/octet-stream"
SMALL, MOST_RECENT = 32 * 1024, 256  # bytes, and how many of such things


class Depot:
    """Bytes are wanted first, then put, then `stored`; then comes the row that names them."""

    def __init__(self, blobs: Blobs, pool: Pool) -> None:
        self.blobs = blobs
        self._objects = ObjectStore(pool)
        self._recent: OrderedDict[tuple[str, str], bytes] = OrderedDict()

    async def keep(self, company: str, data: bytes, content_type: str) -> str:
        """Their sha256, once they are stored. Raises RetryLater while the same bytes are being deleted."""
        sha256 = hashlib.sha256(data).hexdigest()
        if await self._want(company, sha256, len(data)):
            await self.blobs.put(data, company=f"{company}/documents", content_type=content_type)
            await self._objects.stored(company, sha256)
        if len(data) <= SMALL:
            self._recent[company, sha256] = data
            if len(self._recent) > MOST_RECENT:
                self._recent.popitem(last=False)
        return sha256

    def recent(self, company: str, sha256: str) -> bytes | None:
        """Small bytes that came lately, without another way to the store."""
        return self._recent.pop((company, sha256), None)

    async def take(self, company: str, ref: BlobRef) -> None:
        """What the gateway has put in the place of documents is ours from now on. Raises Rejection(invalid)."""
        if ref.key != document_key(company, ref.sha256):
            raise Rejection(Code.INVALID, f"the object {ref.key} is not where documents are stored")
        await self._want(company, ref.sha256, ref.size)
        await self._objects.stored(company, ref.sha256)

    async def read(self, company: str, sha256: str, size: int) -> bytes:
        """All of it: for small ones."""
        return await self.blobs.get(self.ref(company, sha256, size))

    def ref(self, company: str, sha256: str, size: int, content_type: str = UNKNOWN) -> BlobRef:
        return BlobRef(key=document_key(company, sha256), sha256=sha256, size=size, content_type=content_type)

    async def _want(self, company: str, sha256: str, size: int) -> bool:
        """Whether they must be put; from now on they stay for a while."""
        is_missing, is_doomed = await self._objects.want(company, sha256, size)
        if is_doomed:
            raise RetryLater(GONE_SOON, "the same bytes are being removed right now")
        return is_missing
