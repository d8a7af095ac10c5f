"""A run or task in a block that is read from top to bottom: what it is, what was asked of it and took effect, its nodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from fluidcrew.progress import NodeView, RunView, moment
from fluidcrew.render import words
from fluidcrew.render.control import control_line, flags_line
from fluidcrew.render.run import Now, RunTree, headline, summary, utc_now
from fluidcrew.render.verdicts import held_lines

QUIET = "bright_black"
MOST_FAILURES = 5


def run_block(
    run: Mapping[str, Any], standing: Mapping[str, Any] | None, now: Now = utc_now
) -> Iterator[RenderableType]:
    """`standing` is the status of its task, when this is the task's latest run."""
    view = RunView.of(run, run["dag"]["nodes"])
    yield headline(view)
    yield Text(" · ".join([view.id, *_belongs(run)]), style=QUIET)
    if (line := control_line(run.get("control"))) is not None:
        yield line
    if standing is not None:
        yield from _execution(view, standing)
    yield RunTree(view, now, keys=True)
    yield from _failures(view)
    yield from _paused_nodes(view)
    yield from held_lines(view)
    yield summary(view)


def _belongs(run: Mapping[str, Any]) -> list[str]:
    parts = [f"task {words.short_id(run['task_id'])}"] if run.get("task_id") else []
    return parts + ([f"reuses run {words.short_id(run['reuses_run_id'])}"] if run.get("reuses_run_id") else [])


def _execution(view: RunView, standing: Mapping[str, Any]) -> Iterator[Text]:
    if standing.get("degraded"):
        yield Text(
            f"the executor cannot be asked right now; unknown: {', '.join(standing['degraded'])}", style="yellow"
        )
        return
    parts = [words.count(int(standing.get("attempts") or 0), "attempt")]
    if (worker := standing.get("worker")) and not view.over:
        until = words.clock(moment(worker.get("lease_until")))
        parts.append(f"worker {words.short_id(worker['id'])} on {worker.get('host') or 'unknown'}, lease until {until}")
    elif not view.over:
        parts.append("no worker holds it")
    yield Text(" · ".join(parts), style=QUIET)


def _failures(view: RunView) -> Iterator[Text]:
    """Their errors in full: the tree has no room for them."""
    failed = [node for node in view.nodes.values() if node.status == "failed" and node.error]
    for node in failed[:MOST_FAILURES]:
        yield Text.assemble((f"{node.key}: ", "bold"), words.one_line(node.error, 400), style="red")
    if len(failed) > MOST_FAILURES:
        yield Text(f"and {words.count(len(failed) - MOST_FAILURES, 'more node')} failed", style="red")


def _paused_nodes(view: RunView) -> Iterator[Text]:
    """Only those that somebody paused apart from their run."""
    paused = [node for node in view.nodes.values() if node.status == "paused" and not node.held]
    if paused and not view.over:
        yield Text(f"paused: {_keys(paused)}; `fluidcrew why {view.id[:8]}` says by whom", style="yellow")


def _keys(nodes: list[NodeView]) -> str:
    return words.one_line(", ".join(node.key for node in nodes), 100)


def task_block(standing: Mapping[str, Any]) -> Iterator[RenderableType]:
    task = standing["task"]
    status = str(task["status"])
    yield Text.assemble(("Task ", "bold"), (str(task["title"]), "bold"), (f"  {status}", words.colour(status)))
    yield Text(" · ".join([str(task["id"]), *_about(task)]), style=QUIET)
    if (flags := flags_line(task.get("control") or {})) is not None:
        yield flags
    if waits := task.get("waits_for"):
        yield Text(f"waits for {words.count(len(waits), 'task')}: {_ids(waits)}", style="yellow")
    if task.get("auto_start"):
        yield Text("starts by itself as soon as it may", style=QUIET)


def _about(task: Mapping[str, Any]) -> list[str]:
    home = "" if task["company_id"] == "default" else f"{task['company_id']}/"
    parts = [f"project {home}{task['project_id']}"]
    parts += [
        f"{name.replace('_', ' ')} {task[name]}" for name in ("job_type", "assignee", "priority") if task.get(name)
    ]
    return parts + (["archived"] if task.get("archived") else [])


def _ids(ids: list[str]) -> str:
    return words.one_line(", ".join(map(words.short_id, ids)), 120)
