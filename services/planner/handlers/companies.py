"""Companies, and the projects their tasks live in."""

from __future__ import annotations

from chassis.context import Context
from chassis.postgres import Pool
from chassis.unit_of_work import UnitOfWork
from contracts.errors import Code, Rejection
from contracts.page import Page
from contracts.refs import DEFAULT_PROJECT
from contracts.task_control import (
    Company,
    CompanyWasCreated,
    CreateCompany,
    CreateProject,
    ListCompanies,
    ListProjects,
    Project,
    ProjectWasCreated,
)
from services.planner.handlers.effects import unknown_place
from services.planner.store.companies import CompanyStore


class Companies:
    def __init__(self, uow: UnitOfWork, pool: Pool) -> None:
        self._uow = uow
        self._pool = pool

    async def companies(self, request: ListCompanies, _: Context) -> Page[Company]:
        return await CompanyStore(self._pool).companies(request)

    async def projects(self, request: ListProjects, _: Context) -> Page[Project]:
        companies = CompanyStore(self._pool)
        if not await companies.has_company(request.company):
            raise unknown_place(request.company, None)
        return await companies.projects(request)

    async def create_company(self, request: CreateCompany, context: Context) -> Company:
        """Raises Rejection(id_taken)."""
        async with self._uow.order(request, context) as tx:
            companies = CompanyStore(tx.conn)
            made = await companies.add_company(request.id, request.name)
            if made is None:
                raise Rejection(Code.ID_TAKEN, f"there is a company {request.id!r} already; choose another id")
            project = await companies.add_project(made.id, DEFAULT_PROJECT, "Default project")
            assert project is not None, "the company is new"
            tx.publish(CompanyWasCreated(company=made.id, name=made.name), _created(project))
            return tx.answer(made)

    async def create_project(self, request: CreateProject, context: Context) -> Project:
        """Raises Rejection(not_found) or (id_taken)."""
        async with self._uow.order(request, context) as tx:
            companies = CompanyStore(tx.conn)
            if not await companies.has_company(request.company):
                raise unknown_place(request.company, None)
            made = await companies.add_project(request.company, request.id, request.name)
            if made is None:
                raise Rejection(Code.ID_TAKEN, f"this company has a project {request.id!r} already; choose another id")
            tx.publish(_created(made))
            return tx.answer(made)


def _created(project: Project) -> ProjectWasCreated:
    return ProjectWasCreated(company=project.company_id, project=project.id, name=project.name)
