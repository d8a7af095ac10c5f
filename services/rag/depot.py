"""The bytes of documents and the texts read from them; small ones that came lately are at hand."""

from __future__ import annotations

from collections import OrderedDict

from chassis import depot
from chassis.blobs import Blobs
from chassis.postgres import Pool
from services.rag.store.objects import DOCUMENTS

SMALL, MOST_RECENT = 32 * 1024, 1024  # bytes, and how many of such things


class Depot(depot.Depot):
    def __init__(self, blobs: Blobs, pool: Pool) -> None:
        super().__init__(blobs, pool, DOCUMENTS)
        self._recent: OrderedDict[tuple[str, str], bytes] = OrderedDict()

    async def keep(self, company: str, data: bytes, content_type: str) -> str:
        sha256 = await super().keep(company, data, content_type)
        if len(data) <= SMALL:
            self._recent[company, sha256] = data
            if len(self._recent) > MOST_RECENT:
                self._recent.popitem(last=False)
        return sha256

    def recent(self, company: str, sha256: str) -> bytes | None:
        """Small bytes that came lately, without another way to the store."""
        return self._recent.pop((company, sha256), None)
