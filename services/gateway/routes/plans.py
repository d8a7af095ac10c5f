"""Plans: their graph, its versions, who does which node, and whether it may run."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response

from contracts.planner import (
    AssignmentsSaved,
    AssignNodes,
    AutoAssign,
    CreatePlan,
    DiffPlan,
    GetPlan,
    GetPlanVersion,
    ListPlanVersions,
    Plan,
    PlanDiff,
    PlanVersion,
    SubmitForValidation,
    Validated,
)
from services.gateway.deps import CommandIdDep, DeskDep, VersionPath
from services.gateway.domain.places import place
from services.gateway.paging import BIGGEST_OFFSET, Paging, paged
from services.gateway.problems import describe
from services.gateway.schemas import AssignmentsIn, PlanIn, PlanVersionPage, ValidationIn

router = APIRouter(prefix="/plans", tags=["plans"])
PageDep = Annotated[Paging, Depends(paged("version"))]


@router.post("", status_code=201, responses=describe(404, 409))
async def create_plan(desk: DeskDep, body: PlanIn, command_id: CommandIdDep, response: Response) -> Plan:
    fields = {"task_id": body.task_id, "graph": body.graph, "status": body.status}
    plan = await desk.ask(CreatePlan(command_id=command_id, **fields))
    response.headers["Location"] = place(desk.company, f"/plans/{plan.plan_id}")
    return plan


@router.get("/{plan_id}", responses=describe(404))
async def get_plan(desk: DeskDep, plan_id: UUID) -> Plan:
    return await desk.ask(GetPlan(plan_id=plan_id))


@router.get("/{plan_id}/versions", responses=describe(404))
async def list_plan_versions(desk: DeskDep, page: PageDep, plan_id: UUID) -> PlanVersionPage:
    found = await desk.ask(ListPlanVersions(plan_id=plan_id, **page.bounds))
    return page.of(PlanVersionPage, found.items, found.total)


@router.get("/{plan_id}/versions/{version}", responses=describe(404))
async def get_plan_version(desk: DeskDep, plan_id: UUID, version: VersionPath) -> PlanVersion:
    return await desk.ask(GetPlanVersion(plan_id=plan_id, version=version))


@router.get("/{plan_id}/versions/{version}/diff", responses=describe(404))
async def diff_plan(
    desk: DeskDep,
    plan_id: UUID,
    version: VersionPath,
    previous: Annotated[int | None, Query(ge=1, le=BIGGEST_OFFSET)] = None,
) -> PlanDiff:
    """What changed since `previous`, or since the version before."""
    return await desk.ask(DiffPlan(plan_id=plan_id, version=version, previous=previous))


@router.post("/{plan_id}/assignments", responses=describe(404, 409))
async def assign_nodes(desk: DeskDep, plan_id: UUID, body: AssignmentsIn, command_id: CommandIdDep) -> AssignmentsSaved:
    """`updated` counts everything that was written, `created` those of them that are new."""
    saved = await desk.ask(AssignNodes(command_id=command_id, plan_id=plan_id, items=body.items))
    return saved.model_copy(update={"updated": saved.created + saved.updated})


@router.post("/{plan_id}/auto_assign", responses=describe(404, 409))
async def auto_assign(desk: DeskDep, plan_id: UUID, command_id: CommandIdDep) -> AssignmentsSaved:
    return await desk.ask(AutoAssign(command_id=command_id, plan_id=plan_id))


@router.post("/{plan_id}/submit_for_validation", responses=describe(404, 409))
async def submit_for_validation(
    desk: DeskDep, plan_id: UUID, body: ValidationIn, command_id: CommandIdDep
) -> Validated:
    """The plan becomes ready, or a draft again when it is rejected."""
    ask = SubmitForValidation(command_id=command_id, plan_id=plan_id, validated=body.validated, errors=body.errors)
    return await desk.ask(ask)
