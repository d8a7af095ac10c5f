"""Feedback policies: from which score on a result is critical, and how often a node may revise itself."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path

from contracts.feedback import ListPolicies, Policy, PolicyGone, RemovePolicy, Scope, SetPolicy
from services.gateway.deps import CommandIdDep, DeskDep, OrderedByDep
from services.gateway.paging import Paging, paged
from services.gateway.problems import describe
from services.gateway.review_schemas import PolicyIn, PolicyPage

router = APIRouter(prefix="/feedback-policies", tags=["feedback"])
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
async def list_feedback_policies(desk: DeskDep, page: PageDep, scope: Scope | None = None) -> PolicyPage:
    """The narrowest that says something counts: agent, task, project, company, then the server's settings."""
    found = await desk.ask(ListPolicies(scope=scope, **page.bounds))
    return page.of(PolicyPage, found.items, found.total)


@router.put("/{scope}/{scope_id:path}")
async def set_feedback_policy(
    desk: DeskDep, by: OrderedByDep, scope: Scope, scope_id: ScopeIdPath, body: PolicyIn, command_id: CommandIdDep
) -> Policy:
    """Replaces what was set there. It counts for reviews from now on; verdicts that were given stay."""
    return await desk.ask(SetPolicy(command_id=command_id, scope=scope, scope_id=scope_id, by=by, **dict(body)))


@router.delete("/{scope}/{scope_id:path}", responses=describe(404))
async def remove_feedback_policy(
    desk: DeskDep, scope: Scope, scope_id: ScopeIdPath, command_id: CommandIdDep
) -> PolicyGone:
    """Left to the next wider scope from now on."""
    return await desk.ask(RemovePolicy(command_id=command_id, scope=scope, scope_id=scope_id))
