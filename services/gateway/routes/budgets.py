"""Budgets: ceilings for what models may cost, of the company and of its projects, tasks and agents."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path

from contracts.budgets import Budget, BudgetGone, ListBudgets, RemoveBudget, Scope, SetBudget
from services.gateway.deps import CommandIdDep, DeskDep, Filter, OrderedByDep
from services.gateway.paging import Paging, paged
from services.gateway.problems import describe
from services.gateway.schemas import BudgetIn, BudgetPage

router = APIRouter(prefix="/budgets", tags=["budgets"])
PageDep = Annotated[Paging, Depends(paged("scope"))]
ScopeIdPath = Annotated[
    str,
    Path(
        min_length=1,
        max_length=200,
        description="id of the company, project or task, or the name of the agent",
        examples=["ada"],
    ),
]


@router.get("")
async def list_budgets(desk: DeskDep, page: PageDep, scope: Scope | None = None, scope_id: Filter = None) -> BudgetPage:
    found = await desk.ask(ListBudgets(scope=scope, scope_id=scope_id, **page.bounds))
    return page.of(BudgetPage, found.items, found.total)


@router.put("/{scope}/{scope_id:path}", responses=describe(404))
async def set_budget(
    desk: DeskDep, by: OrderedByDep, scope: Scope, scope_id: ScopeIdPath, body: BudgetIn, command_id: CommandIdDep
) -> Budget:
    """A limit for all that is spent there, what was spent before included. Below that it grants nothing more.

    Every model call reserves the most that it can cost before it is made; a node whose call does not fit waits, and goes
    on when the limit is raised.
    """
    return await desk.ask(
        SetBudget(command_id=command_id, scope=scope, scope_id=scope_id, limit_usd=body.limit_usd, by=by)
    )


@router.delete("/{scope}/{scope_id:path}", responses=describe(404))
async def remove_budget(
    desk: DeskDep, by: OrderedByDep, scope: Scope, scope_id: ScopeIdPath, command_id: CommandIdDep
) -> BudgetGone:
    """No ceiling any more; whatever waited for this budget goes on."""
    return await desk.ask(RemoveBudget(command_id=command_id, scope=scope, scope_id=scope_id, by=by))
