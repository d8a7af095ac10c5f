"""Artifacts, for who looks for them, adds to them, or takes them away."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from chassis.bus import Bus
from chassis.context import Context
from chassis.depot import Depot
from chassis.postgres import Pool
from chassis.unit_of_work import UnitOfWork
from contracts.artifacts import (
    AddArtifact,
    Artifact,
    ArtifactCounts,
    ArtifactDetail,
    ArtifactGone,
    CountArtifacts,
    Delivered,
    GetArtifact,
    GetDelivered,
    ListArtifacts,
    RemoveArtifact,
    SetVisibility,
)
from contracts.page import Page
from contracts.plan import ArtifactKind
from contracts.planner import GetTask
from contracts.refs import BlobRef
from services.publisher.domain.addresses import Origin
from services.publisher.domain.media import UNKNOWN, content_type_of, is_text, kind_of
from services.publisher.domain.outputs import summary_of
from services.publisher.domain.paths import NoSite, site
from services.publisher.handlers import removing
from services.publisher.handlers.delivering import deliver
from services.publisher.handlers.refusals import no_artifact, wrong
from services.publisher.store.artifacts import ArtifactStore, NewArtifact, Place
from services.publisher.store.sites import Site, SiteStore
from services.publisher.store.staged import StagedStore

INLINE = 64 * 1024  # bytes of a text that travels with its artifact


class Artifacts:
    def __init__(self, uow: UnitOfWork, pool: Pool, bus: Bus, depot: Depot, origin: Origin) -> None:
        self._uow = uow
        self._pool = pool
        self._bus = bus
        self._depot = depot
        self._origin = origin

    async def page(self, request: ListArtifacts, _: Context) -> Page[Artifact]:
        return await ArtifactStore(self._pool, self._origin).page(request)

    async def count(self, request: CountArtifacts, _: Context) -> ArtifactCounts:
        return await ArtifactStore(self._pool, self._origin).counts(request.company, request.run_id)

    async def artifact(self, request: GetArtifact, _: Context) -> ArtifactDetail:
        """Raises Rejection(not_found)."""
        found = await ArtifactStore(self._pool, self._origin).artifact(request.company, request.artifact_id)
        if found is None:
            raise no_artifact(request.artifact_id)
        ref = self._ref(found)
        return ArtifactDetail(**found.model_dump(), content=await self._text(found, ref), ref=ref)

    def _ref(self, artifact: Artifact) -> BlobRef | None:
        if artifact.sha256 is None or artifact.size is None:
            return None
        type = artifact.content_type or UNKNOWN
        return self._depot.ref(artifact.company_id, artifact.sha256, artifact.size, type)

    async def _text(self, artifact: Artifact, ref: BlobRef | None) -> str | None:
        if ref is None or ref.size > INLINE or not is_text(ref.content_type):
            return None
        return (await self._depot.blobs.get(ref)).decode("utf-8", "replace")

    async def delivered(self, request: GetDelivered, _: Context) -> Delivered:
        found = await StagedStore(self._pool).delivered(request.company, request.node_id, request.attempt)
        return Delivered(
            files=found.files,
            kinds={path: kind_of(content_type_of(path)) for path in found.files},
            links=found.links,
            preview=found.entry,
            preview_flaw=None if found.entry is None else _flaw(found.files, found.entry),
        )

    async def add(self, request: AddArtifact, context: Context) -> Artifact:
        """Raises Rejection(not_found) or (invalid)."""
        new = await self._new(request)
        task = await self._bus.ask(GetTask(company=request.company, task_id=request.task_id), context)
        place = Place(request.company, task.project_id, request.task_id, made_by=request.by or context.actor or None)
        async with self._uow.order(request, context) as tx:
            await deliver(tx, self._origin, place, [new])
            made = await ArtifactStore(tx.conn, self._origin).artifact(request.company, new.id)
            assert made is not None, "it was added above"
            return tx.answer(made)

    async def _new(self, request: AddArtifact) -> NewArtifact:
        if (request.ref is None) == (request.url is None):
            raise wrong("ref", "give either a file or the `url` of a link")
        if request.url is not None:
            check_link(request.url)
            slot, kind = f"link {request.url}", ArtifactKind.LINK
            return NewArtifact(uuid4(), slot, kind, request.name, request.visibility, url=request.url)
        assert request.ref is not None
        await self._depot.take(request.company, request.ref)
        type = content_type_of(request.name)
        return NewArtifact(
            id=uuid4(),
            slot=f"name {request.name}",
            kind=kind_of(type),
            name=request.name,
            visibility=request.visibility,
            content_type=type,
            size=request.ref.size,
            sha256=request.ref.sha256,
            summary=await self._summary(request.ref, type),
        )

    async def _summary(self, ref: BlobRef, type: str) -> str | None:
        if ref.size > INLINE or not is_text(type):
            return None
        return summary_of((await self._depot.blobs.get(ref)).decode("utf-8", "replace"), type)

    async def set_visibility(self, request: SetVisibility, context: Context) -> Artifact:
        """Raises Rejection(not_found)."""
        async with self._uow.order(request, context) as tx:
            store = ArtifactStore(tx.conn, self._origin)
            found, site = await self._locked(store, SiteStore(tx.conn), request.company, request.artifact_id)
            await store.show_to(found, request.visibility)
            if site is not None:
                await SiteStore(tx.conn).shows(site, site.latest, site.approved)
            changed = await store.artifact(request.company, found.id)
            assert changed is not None, "it is locked"
            return tx.answer(changed)

    async def remove(self, request: RemoveArtifact, context: Context) -> ArtifactGone:
        """Raises Rejection(not_found) or (illegal_state)."""
        async with self._uow.order(request, context) as tx:
            store, sites = ArtifactStore(tx.conn, self._origin), SiteStore(tx.conn)
            found, site = await self._locked(store, sites, request.company, request.artifact_id)
            by = request.by or context.actor or None
            if site is not None and found.preview_id is not None:
                await removing.remove_preview(tx, site, found.preview_id, by)
            else:
                await removing.remove_artifact(tx, store, found, by)
            return tx.answer(ArtifactGone(removed=found))

    async def _locked(
        self, store: ArtifactStore, sites: SiteStore, company: str, id: UUID
    ) -> tuple[Artifact, Site | None]:
        """Its site first, if it is a preview: so does everybody. Raises Rejection(not_found)."""
        known = await store.artifact(company, id)
        site = None
        if known is not None and known.preview_id is not None:
            site = await sites.lock_of(company, known.preview_id)
        if (found := await store.lock(company, id)) is None:
            raise no_artifact(id)
        return found, site


def _flaw(paths: Collection[str], entry: str) -> str | None:
    try:
        site(paths, entry)
    except NoSite as missing:
        return str(missing)
    return None


def check_link(url: str) -> None:
    """Raises Rejection(invalid): it must lead somewhere, by a scheme that runs nothing."""
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and url.isprintable() and " " not in url
    except ValueError:
        is_good = False
    if not is_good or len(url) > 2_000:
        raise wrong("url", "is no address of a page; give one that begins with https:// or http://")
