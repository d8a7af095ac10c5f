"""Feedback policies: from which score on a result is critical, and how often a node may revise itself."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from contracts.feedback import GetPolicy, ListPolicies, Policy, PolicyGone, RemovePolicy, SetPolicy
from contracts.scope import Scope
from services.gateway.deps import CommandIdDep, DeskDep, Filter, OrderedByDep, ScopeIdPath
from services.gateway.known import refuse_unknown_company
from services.gateway.paging import Paging, paged
from services.gateway.problems import describe
from services.gateway.review_schemas import PolicyIn, PolicyPage

router = APIRouter(prefix="/feedback-policies", tags=["feedback"])
PageDep = Annotated[Paging, Depends(paged("scope"))]


@router.get("", responses=describe(404))
async def list_feedback_policies(
    desk: DeskDep, page: PageDep, scope: Scope | None = None, scope_id: Filter = None
) -> PolicyPage:
    """The narrowest that says something counts: agent, task, project, company, then the server's settings."""
    found = await desk.ask(ListPolicies(scope=scope, scope_id=scope_id, **page.bounds))
    if not found.total:
        await refuse_unknown_company(desk)
    return page.of(PolicyPage, found.items, found.total)


@router.get("/{scope}/{scope_id:path}", responses=describe(404))
async def get_feedback_policy(desk: DeskDep, scope: Scope, scope_id: ScopeIdPath) -> Policy:
    """404 where none is set: then the next wider one counts."""
    return await desk.ask(GetPolicy(scope=scope, scope_id=scope_id))


@router.put("/{scope}/{scope_id:path}", responses=describe(404))
async def set_feedback_policy(
    desk: DeskDep, by: OrderedByDep, scope: Scope, scope_id: ScopeIdPath, body: PolicyIn, command_id: CommandIdDep
) -> Policy:
    """Replaces what was set there. It counts for reviews from now on; verdicts that were given stay."""
    await refuse_unknown_company(desk)
    return await desk.ask(SetPolicy(command_id=command_id, scope=scope, scope_id=scope_id, by=by, **dict(body)))


@router.delete("/{scope}/{scope_id:path}", responses=describe(404))
async def remove_feedback_policy(
    desk: DeskDep, by: OrderedByDep, scope: Scope, scope_id: ScopeIdPath, command_id: CommandIdDep
) -> PolicyGone:
    """Left to the next wider scope from now on."""
    return await desk.ask(RemovePolicy(command_id=command_id, scope=scope, scope_id=scope_id, by=by))
