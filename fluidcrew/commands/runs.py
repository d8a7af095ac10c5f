"""`run`, `runs` and `show`: start a run, list runs, look at one."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class GateChoice(StrEnum):
    gate = "gate"
    observe = "observe"
    off = "off"


class StatusChoice(StrEnum):
    queued = "queued"
    running = "running"
    paused = "paused"
    completed = "completed"
    failed = "failed"
    canceled = "canceled"


EXAMPLES = """\b
Examples:
  fluidcrew run "Write a market study" --watch
  fluidcrew run "Weekly report" --file plan.json --dry-run --watch
  echo '[{"id": "a", "title": "Say hello"}]' | fluidcrew run Hello --file -"""
Json = Annotated[bool, typer.Option("--json", help="The API's own JSON.")]


def run(
    title: Annotated[str | None, typer.Argument(help="What is to be done; may stand in the file instead.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", "-f", help="JSON: a plan (graph or list of nodes), a task_spec or a whole request; - is stdin."
        ),
    ] = None,
    use_supervisor: Annotated[
        bool, typer.Option("--use-supervisor", help="Let the supervisor draft the plan.")
    ] = False,
    description: Annotated[
        str | None, typer.Option("--description", "-d", help="More about it, for the supervisor.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Walk the plan without calling a model.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show the run live until it has ended.")] = False,
    gate: Annotated[
        GateChoice | None, typer.Option(help="What a review may do: hold nodes back, only score them, not happen.")
    ] = None,
    provider: Annotated[
        str | None, typer.Option(help="Language model provider of all nodes: openai, anthropic, ollama, demo.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model of all nodes.")] = None,
    timeout: Annotated[
        float | None, typer.Option(min=0.1, metavar="SECONDS", help="The whole run may take so long.")
    ] = None,
    json: Json = False,
) -> int:
    """Start a run. Without a file the supervisor drafts a plan for the title."""
    from fluidcrew import running
    from fluidcrew.task_file import read_task_file, request_of

    body = request_of(
        read_task_file(file) if file else None,
        title=title,
        description=description,
        use_supervisor=use_supervisor,
        gate=gate,
        options={"dry_run": dry_run or None, "llm_backend": provider, "llm_model": model, "timeout_s": timeout},
    )
    return asyncio.run(running.start(body, watching=watch, as_json=json))


def runs(
    status: Annotated[StatusChoice | None, typer.Option(help="Only runs in this state.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=200, help="How many, the newest first.")] = 20,
    json: Json = False,
) -> int:
    """List the latest runs."""
    from fluidcrew import running

    return asyncio.run(running.list_runs(status, limit, as_json=json))


def show(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="Id of a run, or how it begins.")],
    result: Annotated[
        bool, typer.Option("--result", "-r", help="The text that came out at the end, and nothing else.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on watching until it has ended.")] = False,
    json: Json = False,
) -> int:
    """Show a run: its nodes as a tree, with states, durations, tokens and cost."""
    from fluidcrew import running

    return asyncio.run(running.show(run_id, result=result, watching=watch, as_json=json))
