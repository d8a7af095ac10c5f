"""Budgets: ceilings for what models may cost, of the company and of its projects, tasks and agents."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from contracts.budgets import Budget, BudgetGone, ListBudgets, RemoveBudget, SetBudget
from contracts.errors import Code, Rejection
from contracts.scope import Scope
from services.gateway.deps import CommandIdDep, DeskDep, Filter, OrderedByDep, ScopeIdPath
from services.gateway.known import refuse_unknown_company
from services.gateway.paging import Paging, paged
from services.gateway.problems import describe
from services.gateway.schemas import BudgetIn, BudgetPage

router = APIRouter(prefix="/budgets", tags=["budgets"])
PageDep = Annotated[Paging, Depends(paged("scope"))]


@router.get("", responses=describe(404))
async def list_budgets(desk: DeskDep, page: PageDep, scope: Scope | None = None, scope_id: Filter = None) -> BudgetPage:
    found = await desk.ask(ListBudgets(scope=scope, scope_id=scope_id, **page.bounds))
    if not found.total:
        await refuse_unknown_company(desk)
    return page.of(BudgetPage, found.items, found.total)


@router.get("/{scope}/{scope_id:path}", responses=describe(404))
async def get_budget(desk: DeskDep, scope: Scope, scope_id: ScopeIdPath) -> Budget:
    """404 where none is set: nothing limits what is spent there."""
    name = scope_id.lower() if scope is Scope.TASK else scope_id
    found = (await desk.ask(ListBudgets(scope=scope, scope_id=name))).items
    if not found:
        raise Rejection(Code.NOT_FOUND, f"there is no budget of {scope} {scope_id}")
    return found[0]


@router.put("/{scope}/{scope_id:path}", responses=describe(404))
async def set_budget(
    desk: DeskDep, by: OrderedByDep, scope: Scope, scope_id: ScopeIdPath, body: BudgetIn, command_id: CommandIdDep
) -> Budget:
    """A limit for all that is spent there, what was spent before included. Below that it grants nothing more.

    Every model call reserves the most that it can cost before it is made; a node whose call does not fit waits, and goes
    on when the limit is raised.
    """
    await refuse_unknown_company(desk)
    return await desk.ask(
        SetBudget(command_id=command_id, scope=scope, scope_id=scope_id, limit_usd=body.limit_usd, by=by)
    )


@router.delete("/{scope}/{scope_id:path}", responses=describe(404))
async def remove_budget(
    desk: DeskDep, by: OrderedByDep, scope: Scope, scope_id: ScopeIdPath, command_id: CommandIdDep
) -> BudgetGone:
    """No ceiling any more; whatever waited for this budget goes on."""
    return await desk.ask(RemoveBudget(command_id=command_id, scope=scope, scope_id=scope_id, by=by))
