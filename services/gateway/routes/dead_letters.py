"""Dead letters of every service: what a consumer gave up on, for administrators to read and replay."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends

from contracts.catalog import OWNER_REQUESTS
from contracts.story import DeadLetter, Replayed
from services.gateway.deps import AdminDep, DeskDep
from services.gateway.paging import Paging, paged
from services.gateway.problems import describe
from services.gateway.schemas import DeadLetterPage

router = APIRouter(prefix="/admin/dead-letters", tags=["admin"])
PageDep = Annotated[Paging, Depends(paged("created_at"))]
Owner = StrEnum("Owner", {name: name for name in OWNER_REQUESTS})  # type: ignore[misc]


@router.get("/{owner}", responses=describe(403))
async def list_dead_letters(_: AdminDep, desk: DeskDep, page: PageDep, owner: Owner) -> DeadLetterPage:
    found = await desk.ask(OWNER_REQUESTS[owner]["dead_letter_list"].model_validate(page.bounds))
    return page.of(DeadLetterPage, found.items, found.total)


@router.get("/{owner}/{letter_id}", responses=describe(403, 404))
async def get_dead_letter(_: AdminDep, desk: DeskDep, owner: Owner, letter_id: UUID) -> DeadLetter:
    """With headers and body."""
    letter: DeadLetter = await desk.ask(OWNER_REQUESTS[owner]["dead_letter_get"].model_validate({"id": letter_id}))
    return letter


@router.post("/{owner}/{letter_id}/replay", responses=describe(403, 404, 409))
async def replay_dead_letter(_: AdminDep, desk: DeskDep, owner: Owner, letter_id: UUID) -> Replayed:
    """Its consumer handles the message once more, under a new id."""
    replayed: Replayed = await desk.ask(OWNER_REQUESTS[owner]["dead_letter_replay"].model_validate({"id": letter_id}))
    return replayed
