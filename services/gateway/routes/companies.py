"""Companies, and the projects their tasks live in."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from contracts.task_control import Company, CreateCompany, CreateProject, ListCompanies, ListProjects, Project
from services.gateway.deps import CommandIdDep, CompanyPath, DeskDep
from services.gateway.paging import Paging, paged
from services.gateway.problems import describe
from services.gateway.schemas import CompanyIn, CompanyPage, ProjectIn, ProjectPage

router = APIRouter(prefix="/companies", tags=["companies"])
PageDep = Annotated[Paging, Depends(paged("created_at"))]


@router.get("")
async def list_companies(desk: DeskDep, page: PageDep) -> CompanyPage:
    found = await desk.ask(ListCompanies(**page.bounds))
    return page.of(CompanyPage, found.items, found.total)


@router.post("", status_code=201, responses=describe(409))
async def create_company(desk: DeskDep, body: CompanyIn, command_id: CommandIdDep) -> Company:
    """With a project `default`."""
    return await desk.ask(CreateCompany(command_id=command_id, id=body.id, name=body.name))


@router.get("/{company}/projects", responses=describe(404))
async def list_projects(desk: DeskDep, page: PageDep, company: CompanyPath) -> ProjectPage:
    found = await desk.ask(ListProjects(**page.bounds))
    return page.of(ProjectPage, found.items, found.total)


@router.post("/{company}/projects", status_code=201, responses=describe(404, 409))
async def create_project(desk: DeskDep, body: ProjectIn, company: CompanyPath, command_id: CommandIdDep) -> Project:
    return await desk.ask(CreateProject(command_id=command_id, id=body.id, name=body.name))
