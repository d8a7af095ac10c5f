"""`publish`, `artifacts`, `previews`, `open` and `sweep`: what was delivered, where to see it, and what goes."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fluidcrew.commands.company import of_a_company

group = typer.Typer(
    no_args_is_help=True, help="The versions of a task's site: ls, pin, unpin, compare, share, shares, unshare."
)
EXAMPLES = """\b
Examples:
  fluidcrew publish dist/ --task 88aa1122             a folder with an index.html
  fluidcrew publish report.zip --task 88aa1122 --entry report.html
  fluidcrew open 88aa1122"""


class KindChoice(StrEnum):
    preview = "preview"
    document = "document"
    file = "file"
    link = "link"
    image = "image"


Task = Annotated[str, typer.Argument(metavar="TASK", show_default=False, help="Id of a task or run, or how it begins.")]
Version = Annotated[str, typer.Argument(metavar="[VERSION]", help="latest, approved, or a number.")]
Number = Annotated[int | None, typer.Argument(metavar="[VERSION]", min=1, show_default=False)]
Last = Annotated[bool, typer.Option("--last", "-l", help="That of the latest run.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=200, help="How many, the newest first.")]
Json = Annotated[bool, typer.Option("--json", help="The API's own JSON.")]


def publish(
    source: Annotated[Path, typer.Argument(metavar="FOLDER | ZIP", show_default=False, help="With an index.html.")],
    task: Annotated[str, typer.Option("--task", "-t", metavar="ID", help="Whose site it is.", show_default=False)],
    entry: Annotated[str | None, typer.Option(metavar="PATH", help="The page that opens first.")] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Until it can be opened.")] = True,
    json: Json = False,
) -> int:
    """Publish a folder or a ZIP as the next version of a task's site."""
    from fluidcrew import delivering

    return asyncio.run(delivering.publish(source, task, entry=entry, waiting=wait, as_json=json))


def artifacts(
    of: Annotated[
        str, typer.Argument(metavar="[RUN | TASK]", show_default=False, help="Its id, or how it begins; all otherwise.")
    ] = "",
    last: Last = False,
    kind: Annotated[KindChoice | None, typer.Option(help="Only these.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also versions that newer ones have followed.")] = False,
    limit: Limit = 50,
    json: Json = False,
) -> int:
    """List what was delivered: of a run, a task, or the whole company."""
    from fluidcrew import delivering

    return asyncio.run(
        delivering.list_artifacts(of, last=last, kind=kind, everything=everything, limit=limit, as_json=json)
    )


def open_preview(
    task: Task = "",
    version: Version = "latest",
    last: Last = False,
    printing: Annotated[bool, typer.Option("--print", help="Only print its address.")] = False,
    json: Json = False,
) -> int:
    """Open a task's site in the browser; print its address where there is none."""
    from fluidcrew import delivering

    return asyncio.run(delivering.open_preview(task, version, last=last, printing=printing, as_json=json))


def sweep(
    task: Annotated[str, typer.Option("--task", "-t", metavar="ID", help="Only this task's.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    json: Json = False,
) -> int:
    """Remove versions beyond those that are kept, pinned or shared; what was removed stays on record."""
    from fluidcrew import delivering

    return asyncio.run(delivering.sweep(task, dry_run=dry_run, as_json=json))


@group.command("ls")
@of_a_company
def list_previews(
    task: Annotated[
        str,
        typer.Argument(
            metavar="[TASK]", show_default=False, help="Id of a task or run, or how it begins; all otherwise."
        ),
    ] = "",
    last: Last = False,
    limit: Limit = 50,
    json: Json = False,
) -> int:
    """List versions of a task, or of the whole company: state, size, address."""
    from fluidcrew import delivering

    return asyncio.run(delivering.list_previews(task, last=last, limit=limit, as_json=json))


@group.command("pin")
@of_a_company
def pin(task: Task = "", version: Version = "latest", last: Last = False, json: Json = False) -> int:
    """Make a version the approved one: it stays, whatever is published later."""
    from fluidcrew import delivering

    return asyncio.run(delivering.pin(task, version, last=last, as_json=json))


@group.command("unpin")
@of_a_company
def unpin(task: Task = "", last: Last = False, json: Json = False) -> int:
    """No version is the approved one any more."""
    from fluidcrew import delivering

    return asyncio.run(delivering.unpin(task, last=last, as_json=json))


@group.command("compare")
@of_a_company
def compare(
    task: Task = "", before: Number = None, after: Number = None, last: Last = False, json: Json = False
) -> int:
    """Compare two versions: files added, removed, changed. Without numbers the newest with the one before."""
    from fluidcrew import delivering

    return asyncio.run(delivering.compare(task, before, after, last=last, as_json=json))


@group.command("share")
@of_a_company
def share(
    task: Task = "",
    version: Version = "latest",
    days: Annotated[float, typer.Option(min=0.001, max=365, help="Until the link answers no more.")] = 7,
    last: Last = False,
    json: Json = False,
) -> int:
    """Make a link that opens a version for whoever has it. It is shown once."""
    from fluidcrew import sharing

    return asyncio.run(sharing.share(task, version, days, last=last, as_json=json))


@group.command("shares")
@of_a_company
def shares(task: Task = "", last: Last = False, json: Json = False) -> int:
    """List a site's links that are open, with the ids by which they are ended."""
    from fluidcrew import sharing

    return asyncio.run(sharing.shares(task, last=last, as_json=json))


@group.command("unshare")
@of_a_company
def unshare(
    share_id: Annotated[str, typer.Argument(metavar="SHARE", show_default=False, help="Its id.")], json: Json = False
) -> int:
    """Revoke a shared link."""
    from fluidcrew import sharing

    return asyncio.run(sharing.unshare(share_id, as_json=json))
