"""From a wish to a run, over the API: drafting with the supervisor, assigning, starting, and what came out at the end."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from fluidcrew.client import Gateway
from fluidcrew.exits import Exit, Halt
from fluidcrew.progress import Happened, NodeView, RunView

LOOK_EVERY = 0.3
LAST_WORD_SECONDS = 1.0

T = TypeVar("T")
Heard = Callable[[Happened], None]


async def drafted_plan(api: Gateway, task_id: str, heard: Heard) -> Mapping[str, Any]:
    """The supervisor's plan. Asking again joins the draft under way, however long it takes."""
    request_id = new_request_id()
    answer = await _telling(api, request_id, heard, _draft(api, task_id, request_id))
    if answer["status"] != "ready":
        raise Halt(
            Exit.FAILED,
            f"the supervisor made no usable plan (it is {answer['status']}):",
            tuple(map(str, answer["errors"])),
        )
    return answer


async def _draft(api: Gateway, task_id: str, request_id: str) -> Mapping[str, Any]:
    while True:
        answer: Mapping[str, Any] = await api.post(f"/tasks/{task_id}/plan", request_id=request_id)
        if not answer.get("pending"):
            return answer
        await asyncio.sleep(LOOK_EVERY)


async def accepted_run(api: Gateway, body: Mapping[str, Any], heard: Heard) -> Mapping[str, Any]:
    """What the API answers to the order; it answers late when a plan is drafted first."""
    request_id = new_request_id()
    return await _telling(api, request_id, heard, api.post("/tasks", body, request_id=request_id))


async def started_run(api: Gateway, body: Mapping[str, Any], heard: Heard) -> str:
    """The id of the run that is wanted, once it exists. Raises Halt as soon as it is known that none comes of it."""
    request_id = new_request_id()
    return await _telling(api, request_id, heard, _start(api, body, request_id))


async def _start(api: Gateway, body: Mapping[str, Any], request_id: str) -> str:
    accepted = await api.post("/tasks", body, request_id=request_id)
    while await api.find(f"/runs/{accepted['run_id']}") is None:  # noqa: ASYNC110
        await asyncio.sleep(LOOK_EVERY)
    return str(accepted["run_id"])


def new_request_id() -> str:
    return f"cli-{uuid.uuid4()}"


async def _telling(api: Gateway, request_id: str, heard: Heard, work: Coroutine[Any, Any, T]) -> T:
    """What `work` answers; what the request brings about meanwhile is told, or a provider's trouble would be silence."""
    working = asyncio.create_task(work)
    listening = asyncio.create_task(_listen(api, request_id, heard))
    try:
        await asyncio.wait({working, listening}, return_when=asyncio.FIRST_COMPLETED)
        if working.done() and _cannot_answer(working.exception()):
            await asyncio.wait({listening}, timeout=LAST_WORD_SECONDS)  # the fact that says why may be on its way
        if listening.done() and (no_run := listening.result()):
            raise no_run
        return await working
    finally:
        for task in (working, listening):
            task.cancel()
        await asyncio.gather(working, listening, return_exceptions=True)


def _cannot_answer(error: BaseException | None) -> bool:
    return isinstance(error, Halt) and error.code is Exit.UNREACHABLE


async def _listen(api: Gateway, request_id: str, heard: Heard) -> Halt | None:
    """Until a fact says that no run comes of it. What belongs to a run is heard by whoever watches the run."""
    told: set[str] = set()
    while True:
        try:
            page = await api.get("/events", request_id=request_id, limit=200)
        except Halt:
            return None  # the order itself fares no better, and says why
        for event in page["items"]:
            happened = Happened.of(event)
            if event["id"] in told or happened.told.get("run_id"):
                continue
            told.add(event["id"])
            if happened.level == "TASK_FAILED":
                return Halt(Exit.FAILED, f"no run came of it: {happened.told.get('reason', 'planning failed')}")
            heard(happened)
        await asyncio.sleep(LOOK_EVERY)


def final_node(view: RunView) -> NodeView | None:
    """The last one that nothing waits for, once it is completed."""
    waited_for = {dep for node in view.nodes.values() for dep in node.deps}
    ends = [node for node in view.nodes.values() if node.key not in waited_for and node.status == "completed"]
    return ends[-1] if ends else None


async def final_output(api: Gateway, view: RunView) -> tuple[str, str] | None:
    """Its title and text; None when it has none."""
    node = final_node(view)
    if node is None:
        return None
    detail = await api.get(f"/nodes/{node.id}")
    return (node.title, str(detail["output"])) if detail.get("output") else None
