"""From a wish to a run, over the API: drafting with the supervisor, assigning, starting, and what came out at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from fluidcrew.client import Gateway
from fluidcrew.exits import Exit, Halt
from fluidcrew.progress import Happened, RunView

LOOK_EVERY = 0.3


async def drafted_plan(api: Gateway, task_id: str) -> Mapping[str, Any]:
    """The supervisor's plan. Asking again joins the draft under way, however long it takes."""
    answer = await api.post(f"/tasks/{task_id}/plan")
    while answer.get("pending"):
        await asyncio.sleep(LOOK_EVERY)
        answer = await api.post(f"/tasks/{task_id}/plan")
    if answer["status"] != "ready":
        raise Halt(
            Exit.FAILED,
            f"the supervisor made no usable plan (it is {answer['status']}):",
            tuple(map(str, answer["errors"])),
        )
    found: Mapping[str, Any] = answer
    return found


async def run_came_to_be(api: Gateway, run_id: str, request_id: str) -> None:
    """Waits until an accepted run exists: its plan may have to be drafted first. Raises Halt when that failed."""
    while await api.find(f"/runs/{run_id}") is None:
        told = await api.get("/events", request_id=request_id, level="TASK_FAILED", limit=1)
        if told["items"]:
            raise Halt(
                Exit.FAILED, f"no run came of it: {Happened.of(told['items'][0]).told.get('reason', 'planning failed')}"
            )
        await asyncio.sleep(LOOK_EVERY)


async def final_output(api: Gateway, view: RunView) -> tuple[str, str] | None:
    """Title and text of the last node that nothing waits for; None when it has none."""
    waited_for = {dep for node in view.nodes.values() for dep in node.deps}
    ends = [node for node in view.nodes.values() if node.key not in waited_for and node.status == "completed"]
    if not ends:
        return None
    detail = await api.get(f"/nodes/{ends[-1].id}")
    return (ends[-1].title, str(detail["output"])) if detail.get("output") else None
