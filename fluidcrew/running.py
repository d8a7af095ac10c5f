"""Runs over the API, for people: started, listed, shown, watched to their end."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from functools import partial
from typing import Any

from rich.text import Text

from fluidcrew.citing import print_citations
from fluidcrew.client import Gateway
from fluidcrew.exits import Exit, Halt
from fluidcrew.naming import UUID_PATTERN, run_meant
from fluidcrew.planning import accepted_run, final_output, started_run
from fluidcrew.progress import Happened, RunView
from fluidcrew.render.facts import happened_line
from fluidcrew.render.places import command
from fluidcrew.render.run import RunTree, headline, markdown, summary
from fluidcrew.render.screen import Screen, console, is_live
from fluidcrew.render.tables import runs_table
from fluidcrew.render.verdicts import held_lines
from fluidcrew.steps import Steps
from fluidcrew.task_file import is_drafted
from fluidcrew.watching import load, watch


async def start(body: Mapping[str, Any], *, watching: bool, as_json: bool = False) -> int:
    async with Gateway.of(os.environ) as api:
        if not watching:
            return await _accepted(api, body, as_json=as_json)
        screen = console(stderr=as_json)
        run_id = await _planned(api, body, screen)
        try:
            view = await watch(api, run_id, screen)
        except asyncio.CancelledError:
            screen.say(f"run {run_id} goes on; {see(run_id)}")
            raise
        await _ended(api, view, screen, as_json=as_json)
        return exit_of(view)


async def _accepted(api: Gateway, body: Mapping[str, Any], *, as_json: bool) -> int:
    """Only the answer goes to standard output: scripts read it."""
    screen = console(stderr=True)
    accepted = await accepted_run(api, body, lambda happened: _troubled(screen, happened))
    run_id = accepted["run_id"]
    print(json.dumps(accepted) if as_json else f"run {run_id} accepted; {see(run_id)}")
    return Exit.OK


def _troubled(screen: Screen, happened: Happened) -> None:
    if "due_at" in happened.told:
        screen.print(happened_line(happened), soft_wrap=True)


async def _planned(api: Gateway, body: Mapping[str, Any], screen: Screen) -> str:
    """The run's id, as soon as there is a run to be watched."""
    doing, done = ("Planning", "Planned") if is_drafted(body) else ("Starting", "Started")
    steps = Steps(screen)
    async with steps.step(f"{doing} {body['title']}", f"{done} {body['title']}") as step:
        run_id = await started_run(api, body, partial(steps.told, step))
        step.detail = f"run {run_id[:8]}"
    return run_id


def see(run_id: str) -> str:
    return f"see it with: {command()} show {run_id[:8]} --watch"


async def list_runs(status: str | None, limit: int, *, as_json: bool) -> int:
    async with Gateway.of(os.environ) as api:
        page = await api.get("/runs", status=status and str(status), limit=limit, order_by="-created_at")
    if as_json:
        print(json.dumps(page["items"], indent=2))
        return Exit.OK
    screen = console()
    if not page["items"]:
        screen.print("no runs yet" if status is None else f"no run is {status}")
        return Exit.OK
    screen.print(runs_table(page["items"]))
    if page["total"] > len(page["items"]):
        screen.print(f"the newest {len(page['items'])} of {page['total']:,}; --limit shows more", style="bright_black")
    return Exit.OK


async def show(wanted: str, *, result: bool, watching: bool, as_json: bool) -> int:
    async with Gateway.of(os.environ) as api:
        run_id = await resolved(api, wanted)
        if as_json:
            print(json.dumps(await api.get(f"/runs/{run_id}"), indent=2))
            return Exit.OK
        screen = console()
        view = await load(api, run_id)
        if watching and not view.over:
            view = await watch(api, run_id, screen)
        if result:
            return await _print_result(api, view, screen)
        _print_run(view, screen)
        await print_citations(api, run_id, screen)
        return exit_of(view) if watching else Exit.OK


async def resolved(api: Gateway, wanted: str) -> str:
    """The whole id of a run of which somebody typed the beginning."""
    return wanted.lower() if UUID_PATTERN.fullmatch(wanted) else (await run_meant(api, wanted)).id


def _print_run(view: RunView, screen: Screen) -> None:
    screen.print(headline(view))
    screen.print(Text(view.id, style="bright_black"))
    screen.print(RunTree(view))
    screen.print(summary(view), soft_wrap=True)
    for line in held_lines(view):
        screen.print(line, soft_wrap=True)


async def _ended(api: Gateway, view: RunView, screen: Screen, *, as_json: bool) -> None:
    _print_run(view, screen)
    if as_json:
        print(json.dumps(await api.get(f"/runs/{view.id}"), indent=2))
    elif view.status == "completed" and not view.dry_run:
        screen.print(f"the result: {command()} show {view.id[:8]} --result", style="bright_black")


async def _print_result(api: Gateway, view: RunView, screen: Screen) -> int:
    found = await final_output(api, view)
    if found is None:
        raise Halt(Exit.FAILED, f"run {view.id[:8]} has no result: it is {view.status}")
    screen.print(markdown(found[1]) if is_live(screen) else Text(found[1]), soft_wrap=not is_live(screen))
    return Exit.OK


def exit_of(view: RunView) -> Exit:
    return Exit.OK if view.status == "completed" else Exit.FAILED
