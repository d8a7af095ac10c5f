"""`export`, `validate` and `normalise`: the accounts of model calls as files."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

VALIDATE_EXAMPLES = """\b
Examples:
  fluidcrew export --last && fluidcrew validate --strict
  fluidcrew validate --since 3f2a91c0          that run and what came after it
  fluidcrew validate --since 1h30m --all"""


def export(
    what: Annotated[
        str, typer.Argument(metavar="[RUN|TASK]", show_default=False, help="Id of a run or task, or how it begins.")
    ] = "",
    last: Annotated[bool, typer.Option("--last", "-l", help="The latest run.")] = False,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="DIR", help="RUNS_ROOT, or .runs, otherwise.", show_default=False)
    ] = None,
) -> int:
    """Write the sidecars of a run as DIR/<run>/nodes/<node>/*.llm.json, one per model call."""
    from fluidcrew import exporting

    return asyncio.run(exporting.export(what, last=last, to=to))


def validate(
    path: Annotated[
        Path | None,
        typer.Argument(help="A directory with sidecars, or one; RUNS_ROOT, or .runs, otherwise.", show_default=False),
    ] = None,
    since: Annotated[
        str, typer.Option(metavar="RUN|TIME", help="A run that lies there, a time (RFC 3339), or a duration back.")
    ] = "",
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse what is deprecated, and a model that is not model_used.")
    ] = False,
    all: Annotated[bool, typer.Option("--all", help="Also those without a version: older than 1.0.")] = False,
    non_uuid: Annotated[bool, typer.Option("--non-uuid", help="Also runs whose id is no UUID of version 4.")] = False,
) -> int:
    """Check sidecar files against their format: OK, KO with every mistake, SKIP. Exit code 1 when one is KO."""
    from fluidcrew import validating

    return validating.validate(path, since=since, strict=strict, all=all, non_uuid=non_uuid)


def normalise(
    path: Annotated[Path, typer.Argument(help="A directory with older sidecars, or one.")],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Where they are written as those of today.")],
) -> int:
    """Read older sidecars and write them in today's format somewhere else; the originals stay as they are."""
    from fluidcrew import validating

    return validating.normalise(path, to)
