"""The SQL of companies and projects."""

from __future__ import annotations

from collections.abc import Mapping

from chassis.postgres import Connection, Pool
from contracts.page import Page
from contracts.task_control import Company, ListCompanies, ListProjects, Project
from services.planner.store.order import order

ORDER: Mapping[str, str] = {"created_at": "created_at", "id": "id", "name": "lower(name)"}


class CompanyStore:
    """Statements on one connection, or on the pool for reads that need no transaction."""

    def __init__(self, db: Connection | Pool) -> None:
        self._db = db

    async def has_company(self, company: str) -> bool:
        return bool(await self._db.fetchval("select exists (select from companies where id = $1)", company))

    async def has_project(self, company: str, project: str) -> bool:
        found = "select exists (select from projects where company_id = $1 and id = $2)"
        return bool(await self._db.fetchval(found, company, project))

    async def companies(self, ask: ListCompanies) -> Page[Company]:
        rows = await self._db.fetch(
            f"""
            select id, name, created_at from companies
            order by {order(ask.order_by, ORDER, "created_at", "id")} limit $1 offset $2
            """,
            *(ask.limit, ask.offset),
        )
        total = await self._db.fetchval("select count(*) from companies")
        return Page[Company](items=[Company(**row) for row in rows], total=total)

    async def projects(self, ask: ListProjects) -> Page[Project]:
        rows = await self._db.fetch(
            f"""
            select company_id, id, name, created_at from projects where company_id = $1
            order by {order(ask.order_by, ORDER, "created_at", "id")} limit $2 offset $3
            """,
            *(ask.company, ask.limit, ask.offset),
        )
        total = await self._db.fetchval("select count(*) from projects where company_id = $1", ask.company)
        return Page[Project](items=[Project(**row) for row in rows], total=total)

    async def add_company(self, id: str, name: str) -> Company | None:
        """None when the id is taken."""
        row = await self._db.fetchrow(
            "insert into companies (id, name) values ($1, $2) on conflict do nothing returning id, name, created_at",
            *(id, name),
        )
        return None if row is None else Company(**row)

    async def add_project(self, company: str, id: str, name: str) -> Project | None:
        """None when the id is taken."""
        row = await self._db.fetchrow(
            """
            insert into projects (company_id, id, name) values ($1, $2, $3) on conflict do nothing
            returning company_id, id, name, created_at
            """,
            *(company, id, name),
        )
        return None if row is None else Project(**row)
