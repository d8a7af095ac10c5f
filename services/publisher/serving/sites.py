"""What is served where, as the database says and, while it is away, as it last said."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar
from uuid import UUID

from chassis.outage import Outage
from chassis.postgres import CONNECTION_LOST, Pool
from contracts.artifacts import Artifact
from services.publisher.domain.addresses import Origin
from services.publisher.domain.destination import Which
from services.publisher.store.artifacts import ArtifactStore
from services.publisher.store.sites import Shared, Site, SiteStore, Tree

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

FRESH = 0.5  # seconds in which a change may go unnoticed
PATIENCE = 3.0  # seconds for the database
A_MOMENT = 0.2  # seconds for one that was away when it was last asked, before what is known is told
MOST_KEPT = 4096  # hosts and addresses, those that lead nowhere included
MOST_TREES = 128  # of up to 2,000 files each


class Away(Exception):
    """What is needed cannot be had right now; the message says what."""


class Recent(Generic[K, V]):
    """The last answers, with their times. One look at a time for each key, however many ask."""

    def __init__(self, most: int, fresh: float) -> None:
        self._most = most
        self._fresh = fresh
        self._kept: OrderedDict[K, tuple[float, V]] = OrderedDict()
        self._looks: dict[K, asyncio.Future[V]] = {}
        self._outage = Outage("previews.database")

    async def get(self, key: K, look: Callable[[], Awaitable[V]]) -> V:
        """Raises Away when the database is and has never answered this. Who knows it waits a moment only."""
        kept = self._kept.get(key)
        if kept is not None and time.monotonic() - kept[0] < self._fresh:
            return kept[1]
        look_under_way = self._looks.get(key)
        if look_under_way is None:
            look_under_way = self._looks[key] = asyncio.ensure_future(self._look(key, look))
            look_under_way.add_done_callback(lambda _: self._looks.pop(key, None))
        if kept is not None and self._outage.lasts:
            await asyncio.wait([look_under_way], timeout=A_MOMENT)
            if not look_under_way.done():
                return kept[1]
        return await asyncio.shield(look_under_way)

    async def _look(self, key: K, look: Callable[[], Awaitable[V]]) -> V:
        try:
            async with asyncio.timeout(PATIENCE):
                found = await look()
        except CONNECTION_LOST as error:
            self._outage.noticed(error)
            if key in self._kept:
                return self._kept[key][1]
            raise Away("the database does not answer") from error
        self._outage.over()
        self._kept[key] = (time.monotonic(), found)
        self._kept.move_to_end(key)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return found


class Sites:
    def __init__(self, pool: Pool, origin: Origin) -> None:
        self._store = SiteStore(pool)
        self._artifacts = ArtifactStore(pool, origin)
        self._sites: Recent[Hashable, Site | None] = Recent(MOST_KEPT, FRESH)
        self._trees: Recent[Hashable, Tree | None] = Recent(MOST_TREES, float("inf"))  # their key says how new they are
        self._states: Recent[Hashable, str | None] = Recent(MOST_KEPT, FRESH)
        self._shares: Recent[str, Shared | None] = Recent(MOST_KEPT, FRESH)
        self._shared: Recent[UUID, Tree | None] = Recent(MOST_TREES, FRESH)
        self._files: Recent[UUID, Artifact | None] = Recent(MOST_KEPT, FRESH)

    async def of_label(self, label: str) -> Site | None:
        return await self._sites.get(label, lambda: self._store.of_label(label))

    async def of_task(self, company: str, project: str, task_id: UUID) -> Site | None:
        key = (company, project, task_id)
        return await self._sites.get(key, lambda: self._store.of_task(company, project, task_id))

    async def tree(self, site: Site, which: Which) -> Tree | None:
        """None when there is no such version, or it is not ready."""
        version = {"latest": site.latest, "approved": site.approved}.get(which) if isinstance(which, str) else which
        if version is None:
            return None
        key = (site.company_id, site.task_id, site.revision, version)
        return await self._trees.get(key, lambda: self._store.tree(site.company_id, site.task_id, version))

    async def state(self, site: Site, which: Which) -> str | None:
        """Of a version that is not served."""
        version = which if isinstance(which, int) else None
        key = (site.company_id, site.task_id, version)
        return await self._states.get(key, lambda: self._store.state(site.company_id, site.task_id, version))

    async def shared(self, digest: str) -> Shared | None:
        return await self._shares.get(digest, lambda: self._store.shared(digest))

    async def shared_tree(self, shared: Shared) -> Tree | None:
        id = shared.preview_id
        assert id is not None
        return await self._shared.get(id, lambda: self._store.tree_of(shared.company_id, id))

    async def shared_file(self, shared: Shared) -> Artifact | None:
        id = shared.artifact_id
        assert id is not None
        return await self._files.get(id, lambda: self._artifacts.artifact(shared.company_id, id))
