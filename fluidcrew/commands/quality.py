"""`qa`, `incident`, `quality` and `policy`: how good results are, what went wrong, and from when on it is critical."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import Annotated

import typer

from fluidcrew.commands.company import of_a_company
from fluidcrew.commands.scopes import Id, Scope

group = typer.Typer(no_args_is_help=True, help="Feedback policies: from which score on a result is critical.")
EXAMPLES = """\b
Examples:
  fluidcrew policy set company default --threshold 70
  fluidcrew policy set agent ada --threshold 50 --auto-revise 2"""


class By(StrEnum):
    agent = "agent"
    role = "role"
    model = "model"


class Bucket(StrEnum):
    day = "day"
    week = "week"


What = Annotated[
    str, typer.Argument(metavar="[RUN|TASK]", show_default=False, help="Id of a run or task, or how it begins.")
]
Last = Annotated[bool, typer.Option("--last", "-l", help="The latest run.")]
Json = Annotated[bool, typer.Option("--json", help="The API's own JSON.")]


def qa(what: What = "", last: Last = False, json: Json = False) -> int:
    """Report the quality of a run: each node's score, decision and failed criteria. Markdown when it is piped."""
    from fluidcrew import quality

    return asyncio.run(quality.report("qa-report", what, last=last, as_json=json))


def incident(what: What = "", last: Last = False, json: Json = False) -> int:
    """Report what went wrong in a run: nodes that failed or are held, events, signals. Markdown when it is piped."""
    from fluidcrew import quality

    return asyncio.run(quality.report("incident", what, last=last, as_json=json))


def over_time(
    by: Annotated[By, typer.Option(help="Whose quality.")] = By.model,
    bucket: Annotated[Bucket | None, typer.Option(help="One row for each.")] = None,
    since: Annotated[str, typer.Option(metavar="WHEN", help="7d, 12h, or a moment (RFC 3339).")] = "30d",
    project: Annotated[str | None, typer.Option(help="Only this project's.")] = None,
    json: Json = False,
) -> int:
    """Show quality over time: average score, accepted at the first attempt, critical."""
    from fluidcrew import quality

    return asyncio.run(quality.over_time(by, bucket, since, project, as_json=json))


@group.command("ls")
@of_a_company
def list_policies(json: Json = False) -> int:
    """List the policies there are."""
    from fluidcrew import quality

    return asyncio.run(quality.list_policies(as_json=json))


@group.command("set", epilog=EXAMPLES)
@of_a_company
def set_policy(
    scope: Scope,
    id: Id,
    threshold: Annotated[
        int | None, typer.Option("--threshold", min=0, max=100, help="A score below it is critical.")
    ] = None,
    auto_revise: Annotated[
        int | None, typer.Option("--auto-revise", min=0, max=10, help="Attempts by itself before a person is asked.")
    ] = None,
    json: Json = False,
) -> int:
    """Say from which score on results are critical, and how often a node may revise itself."""
    from fluidcrew import quality

    return asyncio.run(quality.set_policy(scope, id, threshold, auto_revise, as_json=json))


@group.command("show")
@of_a_company
def show_policy(scope: Scope, id: Id, json: Json = False) -> int:
    """Show one policy."""
    from fluidcrew import quality

    return asyncio.run(quality.show_policy(scope, id, as_json=json))


@group.command("rm")
@of_a_company
def remove_policy(scope: Scope, id: Id, json: Json = False) -> int:
    """Remove a policy: the next wider one counts."""
    from fluidcrew import quality

    return asyncio.run(quality.remove_policy(scope, id, as_json=json))
