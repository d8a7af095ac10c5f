"""How things stand, over the API, for people: a run or task, what waits and why, and which models can be had."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from fluidcrew.answers import print_json
from fluidcrew.client import Gateway
from fluidcrew.exits import Exit
from fluidcrew.naming import Thing, meant, run_meant
from fluidcrew.render.screen import console
from fluidcrew.render.standing import run_block, task_block
from fluidcrew.render.verdicts import decide_with
from fluidcrew.render.waiting import waiting_block
from fluidcrew.render.weather import providers_table


async def status(wanted: str, *, last: bool, as_json: bool) -> int:
    async with Gateway.of(os.environ) as api:
        thing = await meant(api, wanted, last=last)
        standing = await _standing(api, thing)
        run = await _run(api, thing, standing)
    if as_json:
        return print_json(standing if thing.kind == "task" else run)
    if thing.kind == "task" and standing is not None:
        _print(task_block(standing))
    if run is not None:
        its_own = standing is not None and _latest_run(standing) == run["id"]
        _print(run_block(run, standing if its_own else None))
    elif thing.kind == "task":
        _print([Text("it has never run", style="bright_black")])
    return Exit.OK


async def _standing(api: Gateway, thing: Thing) -> Mapping[str, Any] | None:
    """None for a run whose task has been deleted."""
    if thing.kind == "run" and thing.found.get("task_id") is None:
        return None
    found: Mapping[str, Any] | None = await api.find(f"/tasks/{thing.task_id}/status")
    return found


async def _run(api: Gateway, thing: Thing, standing: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    run_id = thing.id if thing.kind == "run" else standing["task"]["run_id"] if standing else None
    return None if run_id is None else await api.get(f"/runs/{run_id}", include_nodes="true")


def _latest_run(standing: Mapping[str, Any]) -> str | None:
    run_id: str | None = standing["task"]["run_id"]
    return run_id


async def why(wanted: str, *, last: bool, everything: bool, as_json: bool) -> int:
    async with Gateway.of(os.environ) as api:
        run = await run_meant(api, wanted, last=last)
        found = await api.get(f"{run.path}/waiting")
    if as_json:
        return print_json(found)
    _print(waiting_block(str(run.found["title"]), found, everything=everything))
    if not found["items"] and run.found.get("needs_attention"):
        _print([Text(f"one of its results was found wanting; {decide_with()}", style="yellow")])
    return Exit.OK


async def providers(*, as_json: bool) -> int:
    async with Gateway.of(os.environ) as api:
        found = await api.get("/providers")
    if as_json:
        return print_json(found)
    _print([providers_table(found["items"])])
    _print([Text("* the default; calls and failures of the last 30 s", style="bright_black")])
    return Exit.OK


def _print(parts: Iterable[RenderableType]) -> None:
    screen = console()
    for part in parts:
        screen.say(part) if isinstance(part, Text) else screen.print(part)
