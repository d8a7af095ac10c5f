"""Tasks that wait for other tasks."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter

from contracts.task_control import AddDependencies, ListDependencies, ListDependents, RemoveDependency, TaskLinks
from services.gateway.deps import CommandIdDep, DeskDep
from services.gateway.problems import describe
from services.gateway.schemas import DependenciesIn

router = APIRouter(prefix="/tasks/{task_id}", tags=["tasks"])


@router.post("/dependencies", status_code=201, responses=describe(404, 409))
async def add_dependencies(desk: DeskDep, task_id: UUID, body: DependenciesIn, command_id: CommandIdDep) -> TaskLinks:
    """The task starts only when these are completed. A cycle is a 409 that names it (`details.cycle`)."""
    return await desk.ask(AddDependencies(command_id=command_id, task_id=task_id, depends_on=body.depends_on))


@router.get("/dependencies", responses=describe(404))
async def list_dependencies(desk: DeskDep, task_id: UUID) -> TaskLinks:
    """The tasks this one waits for, completed or not."""
    return await desk.ask(ListDependencies(task_id=task_id))


@router.delete("/dependencies/{other_id}", responses=describe(404, 409))
async def remove_dependency(desk: DeskDep, task_id: UUID, other_id: UUID, command_id: CommandIdDep) -> TaskLinks:
    """What is left. A dependency that is not there is no mistake."""
    return await desk.ask(RemoveDependency(command_id=command_id, task_id=task_id, depends_on=other_id))


@router.get("/dependents", responses=describe(404))
async def list_dependents(desk: DeskDep, task_id: UUID) -> TaskLinks:
    """The tasks that wait for this one."""
    return await desk.ask(ListDependents(task_id=task_id))
