"""Orders over the API, for people: given, and told how far they got: what is wanted is not what is."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from rich.text import Text

from fluidcrew.answers import print_json
from fluidcrew.client import Gateway
from fluidcrew.exits import Exit
from fluidcrew.naming import Thing, meant, node_meant, run_meant
from fluidcrew.render import words
from fluidcrew.render.control import control_line, flags_line
from fluidcrew.render.places import command
from fluidcrew.render.screen import console
from fluidcrew.running import exit_of, see
from fluidcrew.watching import watch

TAKES_EFFECT = 1.0  # seconds that an order is watched after it was given
LOOK_EVERY = 0.1


async def order(action: str, wanted: str, *, last: bool, interrupt: bool = False, as_json: bool = False) -> int:
    """Pause, resume or cancel what is meant: a run, or a task with its active run."""
    mode = "?mode=interrupt" if interrupt else ""
    async with Gateway.of(os.environ) as api:
        thing = await meant(api, wanted, last=last)
        if thing.kind == "run":
            answer = await api.patch(f"{thing.path}{mode}", {"action": action})
        else:
            answer = await api.post(f"{thing.path}/{action}{mode}")
        if as_json:
            return print_json(answer)
        lines = await _run_after(api, thing, answer) if thing.kind == "run" else _task_after(answer)
    _say(thing, lines)
    return Exit.OK


async def _run_after(api: Gateway, run: Thing, answer: Mapping[str, Any]) -> list[Text]:
    control = answer.get("control")
    latest = await _in_effect(api, run) if control and not control.get("effective_at") else answer
    line = control_line(latest.get("control")) or Text(f"it is {answer['actual']}")
    hint = Text(f"how far it is: {command()} status {run.id[:8]}", style="bright_black")
    return [line] if (latest.get("control") or {}).get("effective_at") else [line, hint]


async def _in_effect(api: Gateway, run: Thing) -> Mapping[str, Any]:
    """The run as soon as it is as was asked, or after a moment."""
    found: Mapping[str, Any] = await api.until(
        run.path,
        lambda latest: (latest.get("control") or {}).get("effective_at"),
        patience=TAKES_EFFECT,
        every=LOOK_EVERY,
        include_nodes="false",
    )
    return found


def _task_after(answer: Mapping[str, Any]) -> list[Text]:
    lines = [flags_line(answer["control"]) or Text("no flag is set: runs may start")]
    if answer.get("run_id"):
        lines.append(Text(f"its run: {command()} status {words.short_id(answer['run_id'])}", style="bright_black"))
    return lines


async def reset(wanted: str, *, last: bool, as_json: bool) -> int:
    async with Gateway.of(os.environ) as api:
        task = await _task_of(api, await meant(api, wanted, last=last))
        answer = await api.post(f"{task.path}/reset")
    if as_json:
        return print_json(answer)
    _say(task, _task_after(answer))
    return Exit.OK


async def retry(wanted: str, *, last: bool, fresh: bool, watching: bool, as_json: bool) -> int:
    """A new run of the task; only what is missing or changed is done again, unless `fresh`."""
    async with Gateway.of(os.environ) as api:
        thing = await meant(api, wanted, last=last)
        path = f"/tasks/{thing.task_id}"
        first = thing.kind == "task" and thing.found.get("run_id") is None
        answer = await api.post(f"{path}/run" if first else f"{path}/retry?fresh={json.dumps(fresh)}")
        run_id = str(answer["run_id"])
        if not watching:
            print(json.dumps(answer) if as_json else f"run {run_id} accepted; {see(run_id)}")
            return Exit.OK
        view = await watch(api, run_id, console(stderr=as_json))
        if as_json:
            print(json.dumps(await api.get(f"/runs/{run_id}"), indent=2))
        return exit_of(view)


async def skip(wanted: str, key: str, *, last: bool, failed: bool, as_json: bool) -> int:
    async with Gateway.of(os.environ) as api:
        if failed:
            return await _skip_failed(api, wanted, last=last, as_json=as_json)
        node_id = await node_meant(api, wanted, key, last=last)
        answer = await api.patch(f"/nodes/{node_id}", {"action": "skip"})
    if as_json:
        return print_json(answer)
    goes_on = "; its run had ended and goes on" if answer.get("reopened") else ""
    print(f"node {key or node_id}: skip requested{goes_on}; {_status_of(answer['run_id'])}")
    return Exit.OK


async def _skip_failed(api: Gateway, wanted: str, *, last: bool, as_json: bool) -> int:
    run = await run_meant(api, wanted, last=last)
    answer = await api.patch(run.path, {"action": "skip_failed_and_resume"})
    if as_json:
        return print_json(answer)
    print(f"skipped {', '.join(answer['skipped_nodes'])}; the run goes on; {_status_of(run.id)}")
    return Exit.OK


async def _task_of(api: Gateway, thing: Thing) -> Thing:
    return thing if thing.kind == "task" else Thing("task", await api.get(f"/tasks/{thing.task_id}"))


def _say(thing: Thing, lines: list[Text]) -> None:
    screen = console()
    screen.say(Text.assemble((thing.name, "bold"), ": ", lines[0]))
    for line in lines[1:]:
        screen.say(line)


def _status_of(run_id: object) -> str:
    return f"see it with: {command()} status {words.short_id(run_id)}"
