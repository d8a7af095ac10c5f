"""Is there such a run, task or company? The timeline may know it, and so can answer while its owner is away."""

from __future__ import annotations

from uuid import UUID

from contracts.errors import RetryLater
from contracts.executor import GetRun
from contracts.planner import GetTask
from contracts.refs import DEFAULT_COMPANY
from contracts.task_control import ListProjects
from services.gateway.asking import Desk
from services.gateway.store import Feed


async def refuse_unknown_run(desk: Desk, feed: Feed, run_id: UUID) -> None:
    """Raises what the executor says of a run that the timeline has not heard of (yet)."""
    if not await feed.knows(desk.company, run_id):
        await desk.ask(GetRun(run_id=run_id, include_nodes=False))


async def refuse_unknown_company(desk: Desk) -> None:
    """For what holds nothing of a company: raises what the planner says of one that there is not."""
    if desk.company != DEFAULT_COMPANY:
        await desk.ask(ListProjects(limit=1))


async def refuse_unknown_task(desk: Desk, feed: Feed, task_id: UUID) -> None:
    if not await feed.knows_task(desk.company, task_id):
        await desk.ask(GetTask(task_id=task_id))


async def title_of_run(desk: Desk, run_id: UUID) -> str | None:
    """None while its executor is away. Raises Rejection(not_found) when there is no such run."""
    try:
        return (await desk.ask(GetRun(run_id=run_id, include_nodes=False))).run.title
    except RetryLater:
        return None
