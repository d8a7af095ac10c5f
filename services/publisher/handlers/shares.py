"""Shares: links to one preview or artifact for people without a key, until they expire or are revoked."""

from __future__ import annotations

import secrets
from uuid import UUID, uuid4

from chassis.context import Context
from chassis.postgres import Pool
from chassis.unit_of_work import Answered, Tx, UnitOfWork
from contracts.artifacts import Artifact
from contracts.errors import Code, Rejection
from contracts.page import Page
from contracts.plan import ArtifactKind
from contracts.previews import (
    CreateShare,
    ListShares,
    Preview,
    PreviewShared,
    PreviewState,
    PreviewUnshared,
    RevokeShare,
    Share,
)
from services.publisher.domain.addresses import LABEL_BYTES, Origin, digest, label_of
from services.publisher.handlers.delivering import told
from services.publisher.handlers.refusals import check_task, no_artifact, no_preview, wrong
from services.publisher.store.artifacts import ArtifactStore
from services.publisher.store.previews import PreviewStore
from services.publisher.store.shares import ShareStore
from services.publisher.store.sites import SiteStore


class Shares:
    def __init__(self, uow: UnitOfWork, pool: Pool, origin: Origin) -> None:
        self._uow = uow
        self._pool = pool
        self._origin = origin

    async def create(self, request: CreateShare, context: Context) -> Share:
        """A repeated order is answered with the same share and a secret of its own: none is kept that could be told again.

        Raises Rejection(invalid), (not_found) or (illegal_state)."""
        try:
            made = await self._make(request, context)
        except Answered as before:
            made = Share.model_validate(before.answer)
        secret = label_of(secrets.token_bytes(LABEL_BYTES))
        await ShareStore(self._pool).open_with(made.id, digest(secret))
        return made.model_copy(update={"url": self._origin.share(secret)})

    async def _make(self, request: CreateShare, context: Context) -> Share:
        if (request.preview_id is None) == (request.artifact_id is None):
            raise wrong("preview_id", "give either the id of a preview or the `artifact_id` of an artifact")
        by = request.by or context.actor or None
        async with self._uow.order(request, context) as tx:
            of = {"preview_id": request.preview_id, "artifact_id": request.artifact_id}
            preview = await self._found(tx, request)
            made = await ShareStore(tx.conn).add(request.company, uuid4(), of, request.expires_in, by)
            if preview is not None:
                tx.publish(
                    PreviewShared(**told(preview), share_id=made.id, expires_at=made.expires_at, by=by),
                )
            return tx.answer(made)

    async def _found(self, tx: Tx, request: CreateShare) -> Preview | None:
        """The preview, locked against who would remove it; None when it is an artifact that is to be shared."""
        if request.artifact_id is not None:
            artifact = await ArtifactStore(tx.conn, self._origin).lock(request.company, request.artifact_id)
            await check_task(tx, request.company, _checked(artifact, request.artifact_id).task_id)
            return None
        assert request.preview_id is not None
        await SiteStore(tx.conn).lock_of(request.company, request.preview_id)
        found = await PreviewStore(tx.conn, self._origin).preview(request.company, request.preview_id)
        if found is None:
            raise no_preview(request.preview_id)
        await check_task(tx, request.company, found.task_id)
        if found.state is not PreviewState.READY:
            raise Rejection(
                Code.ILLEGAL_STATE,
                f"version {found.version} is {found.state}; only one that is ready can be shared",
                state=found.state,
                legal=[PreviewState.READY],
            )
        return found

    async def page(self, request: ListShares, _: Context) -> Page[Share]:
        return await ShareStore(self._pool).page(request)

    async def revoke(self, request: RevokeShare, context: Context) -> Share:
        """Raises Rejection(not_found). One that is over stays so."""
        async with self._uow.order(request, context) as tx:
            found = await ShareStore(tx.conn).revoke(request.company, request.share_id)
            if found is None:
                raise Rejection(Code.NOT_FOUND, f"there is no share {request.share_id}")
            share, was_open = found
            if was_open and share.preview_id is not None:
                preview = await PreviewStore(tx.conn, self._origin).preview(request.company, share.preview_id)
                assert preview is not None, "shares go with their preview"
                by = request.by or context.actor or None
                tx.publish(PreviewUnshared(**told(preview), share_id=share.id, by=by))
            return tx.answer(share)


def _checked(artifact: Artifact | None, id: UUID) -> Artifact:
    if artifact is None:
        raise no_artifact(id)
    if artifact.kind is ArtifactKind.PREVIEW:
        raise wrong("artifact_id", "it is a preview; share it by its `preview_id`")
    if artifact.sha256 is None:
        raise wrong("artifact_id", "a link has no bytes to share; send its address itself")
    return artifact
