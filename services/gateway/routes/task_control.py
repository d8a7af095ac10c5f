"""Orders to tasks, and how a task stands."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter

from contracts.executor import ControlMode
from contracts.planner import GetTask
from contracts.task_control import ControlTask, TaskAction, TaskControlled
from services.gateway.deps import CommandIdDep, DeskDep, OrderedByDep
from services.gateway.orders import ModeQuery
from services.gateway.problems import describe
from services.gateway.schemas import TaskStatusOut
from services.gateway.standing import task_status

router = APIRouter(prefix="/tasks/{task_id}", tags=["tasks"])


@router.get("/status", responses=describe(404))
async def get_task_status(desk: DeskDep, task_id: UUID) -> TaskStatusOut:
    """The task, its active run, and how far that is, in one answer."""
    return await task_status(desk, await desk.ask(GetTask(task_id=task_id)))


@router.post("/pause", responses=describe(404, 409))
async def pause_task(
    desk: DeskDep, by: OrderedByDep, task_id: UUID, command_id: CommandIdDep, mode: ModeQuery = None
) -> TaskControlled:
    """Sets the flag `pause`, which lets no new run start, and pauses the active run."""
    chosen = mode or ControlMode.FINISH
    return await desk.ask(
        ControlTask(command_id=command_id, task_id=task_id, action=TaskAction.PAUSE, mode=chosen, by=by)
    )


@router.post("/resume", responses=describe(404, 409))
async def resume_task(desk: DeskDep, by: OrderedByDep, task_id: UUID, command_id: CommandIdDep) -> TaskControlled:
    """Clears both flags, and resumes the active run."""
    return await desk.ask(ControlTask(command_id=command_id, task_id=task_id, action=TaskAction.RESUME, by=by))


@router.post("/cancel", responses=describe(404, 409))
async def cancel_task(desk: DeskDep, by: OrderedByDep, task_id: UUID, command_id: CommandIdDep) -> TaskControlled:
    """Sets the flag `cancel`, clears `pause`, and cancels the active run."""
    return await desk.ask(ControlTask(command_id=command_id, task_id=task_id, action=TaskAction.CANCEL, by=by))


@router.post("/reset", responses=describe(404, 409))
async def reset_task(desk: DeskDep, by: OrderedByDep, task_id: UUID, command_id: CommandIdDep) -> TaskControlled:
    """Clears both flags, and touches no run."""
    return await desk.ask(ControlTask(command_id=command_id, task_id=task_id, action=TaskAction.RESET, by=by))
