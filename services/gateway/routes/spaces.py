"""Spaces of knowledge: whose they are, who may read and write in them, and how they are made searchable."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Response

from contracts.knowledge import (
    ChangeSpace,
    CreateSpace,
    GetSpace,
    ListSpaces,
    RemoveSpace,
    Space,
    SpaceGone,
    SpaceScope,
)
from contracts.planner import ListTasks
from services.gateway.asking import Desk
from services.gateway.deps import CommandIdDep, DeskDep, Filter
from services.gateway.domain.places import place
from services.gateway.knowledge_schemas import Grants, SpaceIn, SpacePage, SpacePatch
from services.gateway.known import refuse_unknown_company
from services.gateway.paging import Paging, paged
from services.gateway.problems import describe

router = APIRouter(prefix="/knowledge/spaces", tags=["knowledge"])
PageDep = Annotated[Paging, Depends(paged("name"))]


@router.get("", responses=describe(404))
async def list_spaces(
    desk: DeskDep,
    page: PageDep,
    scope: SpaceScope | None = None,
    scope_id: Filter = None,
    name_contains: Filter = None,
) -> SpacePage:
    found = await desk.ask(ListSpaces(scope=scope, scope_id=scope_id, name_contains=name_contains, **page.bounds))
    if not found.total:
        await refuse_unknown_company(desk)
    return page.of(SpacePage, found.items, found.total)


@router.post("", status_code=201, responses=describe(404, 409))
async def create_space(desk: DeskDep, body: SpaceIn, command_id: CommandIdDep, response: Response) -> Space:
    """Of the company, of a project, or of one agent. Grants let others in, and denials outrank them."""
    await refuse_unknown_company(desk)
    await _refuse_unknown_project(desk, body)
    made = await desk.ask(CreateSpace(command_id=command_id, **dict(body)))
    response.headers["Location"] = place(desk.company, f"/knowledge/spaces/{made.id}")
    return made


async def _refuse_unknown_project(desk: Desk, body: SpaceIn) -> None:
    if body.scope is SpaceScope.PROJECT and body.scope_id:
        await desk.ask(ListTasks(project=body.scope_id, limit=1))


@router.get("/{space_id}", responses=describe(404))
async def get_space(desk: DeskDep, space_id: UUID) -> Space:
    return await desk.ask(GetSpace(space_id=space_id))


@router.patch("/{space_id}", responses=describe(404, 409))
async def change_space(desk: DeskDep, space_id: UUID, body: SpacePatch, command_id: CommandIdDep) -> Space:
    """Another language, embedder or chunking makes all of it anew (`reindexing`); search goes on with what there is."""
    return await desk.ask(ChangeSpace(command_id=command_id, space_id=space_id, **dict(body)))


@router.put("/{space_id}/grants", responses=describe(404))
async def set_grants(desk: DeskDep, space_id: UUID, body: Grants, command_id: CommandIdDep) -> Space:
    """In the place of all that there were; from the answer on no search goes by the old ones. Empty: people only."""
    return await desk.ask(ChangeSpace(command_id=command_id, space_id=space_id, grants=body))


@router.delete("/{space_id}", responses=describe(404, 409))
async def remove_space(desk: DeskDep, space_id: UUID, command_id: CommandIdDep, force: bool = False) -> SpaceGone:
    """409 while there are documents in it, unless `force` removes them with it."""
    return await desk.ask(RemoveSpace(command_id=command_id, space_id=space_id, force=force))
