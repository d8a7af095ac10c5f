"""Which routes there are: those of a company once for the caller's own, and once more under `/companies/{company}`."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from fastapi import APIRouter, Depends, FastAPI
from fastapi.routing import APIRoute

from contracts.errors import Code, Rejection
from contracts.planner import GetTask
from services.gateway.deps import CompanyPath, DeskDep, ProjectPath
from services.gateway.routes import (
    artifacts,
    budgets,
    citations,
    companies,
    config,
    dead_letters,
    deliverables,
    docs,
    documents,
    events,
    feedback_policies,
    feedbacks,
    health,
    knowledge,
    nodes,
    plans,
    previews,
    providers,
    quality,
    reviews,
    runs,
    shares,
    sidecars,
    spaces,
    streams,
    task_control,
    task_links,
    task_runs,
    tasks,
)

COMPANY = "/companies/{company}"
PROJECT = f"{COMPANY}/projects/{{project}}"
OF_ALL = (health, companies, config, providers, dead_letters, docs)
OF_A_COMPANY = (
    *(tasks.collection, tasks.router, task_control.router, task_runs.router, task_links.router, plans.router),
    *(streams.router, runs.router, nodes.router, sidecars.router, events.router, budgets.router),
    *(feedbacks.router, feedback_policies.router, reviews.router, quality.router),
    *(artifacts.collection, artifacts.of_tasks, artifacts.router),
    *(previews.of_tasks, previews.router, shares.router, deliverables.router),
    *(spaces.router, documents.router, knowledge.router, citations.router),
)

#: under a project too, as fluidmanager had them
OF_A_TASK = (task_runs.router, artifacts.of_tasks, previews.of_tasks)


def in_company(company: CompanyPath) -> None:
    """Declares the parameter; `deps.CompanyDep` reads it."""


def in_project(company: CompanyPath, project: ProjectPath) -> None:
    """The same for a project."""


async def task_in_project(desk: DeskDep, company: CompanyPath, project: ProjectPath, task_id: UUID) -> None:
    """Raises Rejection(not_found) for a task of another project, as if it were not there."""
    task = await desk.ask(GetTask(task_id=task_id))
    if task.project_id != project:
        raise Rejection(Code.NOT_FOUND, f"there is no task {task_id} in the project {project!r}")


def named(suffix: str = "") -> Callable[[APIRoute], str]:
    """Operations are called as their functions; the name must tell the same route's places apart."""
    return lambda route: f"{route.name}{suffix}"


def offer(app: FastAPI) -> None:
    for module in OF_ALL:
        app.include_router(module.router, generate_unique_id_function=named())
    for router in OF_A_COMPANY:
        app.include_router(router, generate_unique_id_function=named())
    for router in OF_A_COMPANY:
        _again(app, router, COMPANY, in_company, "_of_company")
    _again(app, tasks.collection, PROJECT, in_project, "_of_project")
    _again(app, artifacts.collection, PROJECT, in_project, "_of_project")
    for router in OF_A_TASK:
        _again(app, router, PROJECT, task_in_project, "_of_project")


def _again(app: FastAPI, router: APIRouter, prefix: str, declares: Callable[..., object], suffix: str) -> None:
    app.include_router(
        router, prefix=prefix, dependencies=[Depends(declares)], generate_unique_id_function=named(suffix)
    )
