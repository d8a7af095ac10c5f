"""Tasks: drafted, planned, started; and ad-hoc runs, which are a task created, planned and started in one go."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Response

from contracts.errors import Code, Rejection
from contracts.planner import (
    CreateTask,
    DeleteTask,
    DraftPlan,
    GetTask,
    LaunchTask,
    ListTasks,
    PlanDrafted,
    RunOptions,
    StartTask,
    Task,
    TaskStatus,
    UpdateTask,
)
from contracts.refs import DEFAULT_PROJECT
from services.gateway.asking import Desk
from services.gateway.deps import CommandIdDep, DeskDep, Filter, OwnRequestIdDep, ProjectDep
from services.gateway.domain.places import place
from services.gateway.paging import Paging, paged
from services.gateway.problems import describe
from services.gateway.schemas import Accepted, Started, TaskIn, TaskOut, TaskPage, TaskPatch
from services.gateway.standing import accepted, task_out

#: offered under a project too; the rest knows a task by its id alone
collection = APIRouter(tags=["tasks"])
router = APIRouter(tags=["tasks"])
OF_A_DRAFT = (
    *("title", "description", "gate", "auto_plan", "auto_start"),
    *("dependencies", "job_type", "payload", "assignee", "priority"),
)
PageDep = Annotated[Paging, Depends(paged("created_at"))]


@collection.get("/tasks", responses=describe(404))
async def list_tasks(
    desk: DeskDep,
    page: PageDep,
    project: ProjectDep,
    status: TaskStatus | None = None,
    title_contains: Filter = None,
    include_archived: bool = False,
) -> TaskPage:
    found = await desk.ask(
        ListTasks(
            status=status,
            title_contains=title_contains,
            include_archived=include_archived,
            project=project,
            **page.bounds,
        )
    )
    return page.of(TaskPage, found.items, found.total)


@collection.post(
    "/tasks",
    status_code=201,
    response_model=Task | Accepted,
    responses={202: {"model": Accepted, "description": "An ad-hoc run was accepted"}, **describe(404, 409)},
)
async def create_task(
    desk: DeskDep,
    body: TaskIn,
    project: ProjectDep,
    command_id: CommandIdDep,
    request_id: OwnRequestIdDep,
    response: Response,
) -> Task | Accepted:
    """Draft, draft and start, or run ad hoc, depending on what the body holds."""
    into = _project_of(body, project)
    if body.ad_hoc:
        return await _launch(desk, body, into, command_id, body.request_id or request_id, response)
    created = await desk.ask(
        CreateTask(command_id=command_id, project=into, **{name: getattr(body, name) for name in OF_A_DRAFT})
    )
    if created.run_id is not None:
        return accepted(desk, created.run_id, created.task.id, response)
    response.headers["Location"] = place(desk.company, f"/tasks/{created.task.id}")
    return created.task


def _project_of(body: TaskIn, named: str | None) -> str:
    if named and body.project and body.project != named:
        text = f"the path names the project {named!r}, the body {body.project!r}; leave it out of the body"
        raise Rejection(Code.BAD_REQUEST, text)
    return named or body.project or DEFAULT_PROJECT


async def _launch(
    desk: Desk, body: TaskIn, project: str, command_id: UUID, dedupe_key: str | None, response: Response
) -> Accepted:
    if body.sources != 1:
        raise Rejection(
            Code.BAD_REQUEST, f"an ad-hoc run needs exactly one of task_spec, task and task_file, not {body.sources}"
        )
    if body.of_drafts:
        text = f"{', '.join(body.of_drafts)}: not of an ad-hoc run; create the task first, then POST /tasks/<id>/run"
        raise Rejection(Code.BAD_REQUEST, text)
    launched = await desk.ask(
        LaunchTask(
            command_id=command_id,
            project=project,
            title=body.title,
            description=body.description,
            task_spec=body.task_spec,
            task=body.task,
            task_file=body.task_file,
            options=body.options or RunOptions(),
            gate=body.gate,
            dedupe_key=dedupe_key,
        )
    )
    response.status_code = 202
    return accepted(desk, launched.run_id, launched.task_id, response)


@router.get("/tasks/{task_id}", responses=describe(404))
async def get_task(desk: DeskDep, task_id: UUID) -> TaskOut:
    return await task_out(desk, await desk.ask(GetTask(task_id=task_id)))


@router.patch("/tasks/{task_id}", responses=describe(404, 409))
async def update_task(desk: DeskDep, task_id: UUID, body: TaskPatch, command_id: CommandIdDep) -> Task:
    order = {"command_id": command_id, "task_id": task_id, "clears": body.clears}
    return await desk.ask(UpdateTask.model_validate(order | body.model_dump()))


@router.delete("/tasks/{task_id}", status_code=204, responses=describe(409))
async def delete_task(desk: DeskDep, task_id: UUID, command_id: CommandIdDep) -> None:
    """204 also when there is no such task; 409 while it runs. What it delivered opens no more and is removed later."""
    await desk.ask(DeleteTask(command_id=command_id, task_id=task_id))


@router.post(
    "/tasks/{task_id}/plan",
    status_code=201,
    responses={202: {"model": PlanDrafted, "description": "The supervisor needs longer"}, **describe(404, 409)},
)
async def plan_task(desk: DeskDep, task_id: UUID, command_id: CommandIdDep, response: Response) -> PlanDrafted:
    """Waits for the supervisor up to a minute; 202 when it needs longer. A repetition joins the draft under way."""
    drafted = await desk.ask(DraftPlan(command_id=command_id, task_id=task_id))
    if drafted.pending:
        response.status_code = 202
    plan_exists = drafted.plan_id is not None and not drafted.pending
    response.headers["Location"] = place(
        desk.company, f"/plans/{drafted.plan_id}" if plan_exists else f"/tasks/{task_id}"
    )
    return drafted


@router.post("/tasks/{task_id}/start", status_code=202, responses=describe(404, 409))
async def start_task(
    desk: DeskDep, task_id: UUID, command_id: CommandIdDep, response: Response, dry_run: bool = False
) -> Started:
    started = await desk.ask(StartTask(command_id=command_id, task_id=task_id, dry_run=dry_run))
    response.headers["Location"] = place(desk.company, f"/runs/{started.run_id}")
    return Started(run_id=started.run_id, dry_run=started.dry_run)
