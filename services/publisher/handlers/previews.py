"""Previews, for who sends them, looks for them, pins them and compares them."""

from __future__ import annotations

from uuid import UUID, uuid4

from chassis.context import Context
from chassis.unit_of_work import Tx
from contracts.artifacts import Artifact
from contracts.errors import Code, Rejection
from contracts.page import Page
from contracts.plan import ArtifactKind
from contracts.planner import GetTask
from contracts.previews import (
    ComparePreviews,
    GetPreview,
    ListPreviews,
    PinPreview,
    Preview,
    PreviewChanges,
    PreviewPinned,
    PreviewState,
    PreviewUnpinned,
    SubmitPreview,
    UnpinPreview,
)
from contracts.refs import BlobRef
from services.publisher.domain.media import ZIP
from services.publisher.domain.versions import compared
from services.publisher.handlers.delivering import deliver, next_version, receive, told
from services.publisher.handlers.means import Means
from services.publisher.handlers.refusals import check_task, no_artifact, no_preview, wrong
from services.publisher.store.artifacts import ArtifactStore, NewArtifact, Place
from services.publisher.store.previews import NewPreview, PreviewStore
from services.publisher.store.sites import Files, Site, SiteStore

SITE = "site"  # the slot of what people send to a task


class Previews(Means):
    async def submit(self, request: SubmitPreview, context: Context) -> Preview:
        """Raises Rejection(not_found) or (invalid)."""
        ref, name = await self._sent(request)
        task = await self.bus.ask(GetTask(company=request.company, task_id=request.task_id), context)
        by = request.by or context.actor or None
        place = Place(request.company, task.project_id, request.task_id, made_by=by)
        async with self.uow.order(request, context) as tx:
            new = NewPreview(
                id=uuid4(),
                company_id=request.company,
                project_id=task.project_id,
                task_id=request.task_id,
                version=await next_version(tx, place),
                source="zip",
                visibility=self.shown_to,
                zip_sha256=ref.sha256,
                zip_size=ref.size,
                wanted_entry=request.entry,
                made_by=by,
            )
            await receive(tx, self.jobs, self.origin, new, size=ref.size, story_of=request.task_id)
            await deliver(tx, self.origin, place, [_listed(new, ref, name)])
            return tx.answer(await self._known(tx, request.company, new.id))

    async def _sent(self, request: SubmitPreview) -> tuple[BlobRef, str]:
        """The archive, which is ours from now on, and its name."""
        if (request.ref is None) == (request.artifact_id is None):
            raise wrong("ref", "give either a file or the `artifact_id` of an archive")
        if request.ref is not None:
            await self.depot.take(request.company, request.ref)
            return request.ref, (request.name or "site.zip")[:200]
        assert request.artifact_id is not None
        found = await ArtifactStore(self.pool, self.origin).artifact(request.company, request.artifact_id)
        if found is None:
            raise no_artifact(request.artifact_id)
        ref = self._archive(found)
        await self.depot.want(request.company, {ref.sha256: ref.size})
        return ref, request.name or found.name

    def _archive(self, artifact: Artifact) -> BlobRef:
        if artifact.sha256 is None or artifact.size is None or artifact.content_type != ZIP:
            raise wrong("artifact_id", f"{artifact.name} is no ZIP archive; publish one that is")
        return self.depot.ref(artifact.company_id, artifact.sha256, artifact.size, ZIP)

    async def page(self, request: ListPreviews, _: Context) -> Page[Preview]:
        return await PreviewStore(self.pool, self.origin).page(request)

    async def preview(self, request: GetPreview, _: Context) -> Preview:
        """Raises Rejection(not_found) or (invalid)."""
        if (request.preview_id is None) == (request.task_id is None):
            raise wrong("preview_id", "give either the id of a preview or the `task_id` it belongs to")
        store = PreviewStore(self.pool, self.origin)
        if request.preview_id is not None:
            found = await store.preview(request.company, request.preview_id)
            missing = f"there is no preview {request.preview_id}"
        else:
            assert request.task_id is not None
            found = await store.which(request.company, request.task_id, request.which)
            missing = f"task {request.task_id} has no {_named(request.which)}"
        if found is None:
            raise Rejection(Code.NOT_FOUND, missing)
        return found

    async def pin(self, request: PinPreview, context: Context) -> Preview:
        """Raises Rejection(not_found) or (illegal_state)."""
        async with self.uow.order(request, context) as tx:
            site, preview = await self._locked(tx, request.company, request.preview_id)
            if preview.state is not PreviewState.READY:
                raise Rejection(
                    Code.ILLEGAL_STATE,
                    f"version {preview.version} is {preview.state}; only one that is ready can be pinned",
                    state=preview.state,
                    legal=[PreviewState.READY],
                )
            if not preview.approved:
                await SiteStore(tx.conn).shows(site, site.latest, preview.version)
                tx.publish(PreviewPinned(**told(preview), by=request.by or context.actor or None))
            return tx.answer(await self._known(tx, request.company, preview.id))

    async def unpin(self, request: UnpinPreview, context: Context) -> Preview:
        """Raises Rejection(not_found). One that is not pinned stays so."""
        async with self.uow.order(request, context) as tx:
            site, preview = await self._locked(tx, request.company, request.preview_id)
            if preview.approved:
                await SiteStore(tx.conn).shows(site, site.latest, None)
                tx.publish(PreviewUnpinned(**told(preview), by=request.by or context.actor or None))
            return tx.answer(await self._known(tx, request.company, preview.id))

    async def _locked(self, tx: Tx, company: str, id: UUID) -> tuple[Site, Preview]:
        site = await SiteStore(tx.conn).lock_of(company, id)
        found = await PreviewStore(tx.conn, self.origin).preview(company, id)
        if site is None or found is None:
            raise no_preview(id)
        await check_task(tx, company, site.task_id)
        return site, found

    async def _known(self, tx: Tx, company: str, id: UUID) -> Preview:
        found = await PreviewStore(tx.conn, self.origin).preview(company, id)
        assert found is not None, "it is in this transaction"
        return found

    async def compare(self, request: ComparePreviews, _: Context) -> PreviewChanges:
        """Raises Rejection(not_found)."""
        before = await self._files(request, request.from_version)
        after = await self._files(request, request.to_version)
        added, removed, changed, same = compared(before, after)
        return PreviewChanges(
            task_id=request.task_id,
            from_version=request.from_version,
            to_version=request.to_version,
            added=added,
            removed=removed,
            changed=changed,
            same=same,
        )

    async def _files(self, request: ComparePreviews, version: int) -> Files:
        found = await PreviewStore(self.pool, self.origin).files(request.company, request.task_id, version)
        if found is None:
            raise Rejection(Code.NOT_FOUND, f"task {request.task_id} has no version {version} that is ready")
        return found


def _listed(new: NewPreview, ref: BlobRef, name: str) -> NewArtifact:
    """A preview is an artifact as well: its bytes are the archive."""
    return NewArtifact(
        id=uuid4(),
        slot=SITE,
        kind=ArtifactKind.PREVIEW,
        name=name,
        visibility=new.visibility,
        content_type=ZIP,
        size=ref.size,
        sha256=ref.sha256,
        preview_id=new.id,
    )


def _named(which: str) -> str:
    return {"latest": "preview that is ready", "approved": "approved preview"}.get(which, f"version {which}")
