"""Shared links: a preview or an artifact for whoever has the link, until it expires or is revoked."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends

from contracts.artifacts import GetArtifact
from contracts.message import Request
from contracts.previews import CreateShare, GetPreview, ListShares, RevokeShare, Share
from services.gateway.artifact_schemas import ShareIn, SharePage
from services.gateway.deps import CommandIdDep, DeskDep, OrderedByDep
from services.gateway.paging import Paging, paged
from services.gateway.problems import describe

router = APIRouter(tags=["shares"])
PageDep = Annotated[Paging, Depends(paged("created_at"))]
DAY = 86_400


@router.post("/previews/{preview_id}/shares", status_code=201, responses=describe(404, 409))
async def share_preview(
    desk: DeskDep, by: OrderedByDep, preview_id: UUID, command_id: CommandIdDep, body: ShareIn | None = None
) -> Share:
    """`url` opens this very version. It is shown once: what is kept is only its hash."""
    return await desk.ask(_order(body, command_id=command_id, preview_id=preview_id, by=by))


@router.get("/previews/{preview_id}/shares", responses=describe(404))
async def list_preview_shares(desk: DeskDep, page: PageDep, preview_id: UUID) -> SharePage:
    return await _page(desk, page, ListShares(preview_id=preview_id, **page.bounds), GetPreview(preview_id=preview_id))


@router.post("/artifacts/{artifact_id}/shares", status_code=201, responses=describe(404, 409))
async def share_artifact(
    desk: DeskDep, by: OrderedByDep, artifact_id: UUID, command_id: CommandIdDep, body: ShareIn | None = None
) -> Share:
    """`url` downloads it. It is shown once: what is kept is only its hash."""
    return await desk.ask(_order(body, command_id=command_id, artifact_id=artifact_id, by=by))


@router.get("/artifacts/{artifact_id}/shares", responses=describe(404))
async def list_artifact_shares(desk: DeskDep, page: PageDep, artifact_id: UUID) -> SharePage:
    shares = ListShares(artifact_id=artifact_id, **page.bounds)
    return await _page(desk, page, shares, GetArtifact(artifact_id=artifact_id))


@router.delete("/shares/{share_id}", responses=describe(404))
async def revoke_share(desk: DeskDep, by: OrderedByDep, share_id: UUID, command_id: CommandIdDep) -> Share:
    """Its link answers 410 from now on."""
    return await desk.ask(RevokeShare(command_id=command_id, share_id=share_id, by=by))


def _order(body: ShareIn | None, **what: Any) -> CreateShare:
    return CreateShare(expires_in=int((body or ShareIn()).expires_in_days * DAY), **what)


async def _page(desk: DeskDep, page: Paging, shares: ListShares, of: Request[Any]) -> SharePage:
    """Raises Rejection(not_found) when there is nothing that could have any."""
    found = await desk.ask(shares)
    if not found.total:
        await desk.ask(of)
    return page.of(SharePage, found.items, found.total)
