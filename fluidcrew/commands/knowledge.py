"""`knowledge`: what the company knows – spaces, documents, and what is found in them."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fluidcrew.commands.company import of_a_company

EXAMPLES = """\b
Examples:
  fluidcrew knowledge new Handbook --language en
  fluidcrew knowledge add handbook/*.pdf notes.md --space Handbook
  fluidcrew knowledge search 'who may sign an order?'"""

group = typer.Typer(
    no_args_is_help=True, epilog=EXAMPLES, help="What the company knows: add, ls, search, rm, spaces, new, drop."
)


class LanguageChoice(StrEnum):
    en = "en"
    fr = "fr"


class StateChoice(StrEnum):
    received = "received"
    parsing = "parsing"
    embedding = "embedding"
    ready = "ready"
    failed = "failed"
    needs_ocr = "needs_ocr"


Space = Annotated[str, typer.Option("--space", "-s", metavar="NAME | ID", help="The only one, when left out.")]
AnySpace = Annotated[str, typer.Option("--space", "-s", metavar="NAME | ID", help="Only there; everywhere otherwise.")]
TheSpace = Annotated[str, typer.Argument(metavar="SPACE", show_default=False, help="Its name, or how its id begins.")]
Json = Annotated[bool, typer.Option("--json", help="The API's own JSON.")]


@group.command("add")
@of_a_company
def add(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", show_default=False, help="PDF, DOCX, HTML, text.")],
    space: Space = "",
    title: Annotated[str, typer.Option(help="Of a single file; its name otherwise.")] = "",
    tag: Annotated[list[str] | None, typer.Option("--tag", help="May be given several times.")] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Until they can be searched.")] = True,
    json: Json = False,
) -> int:
    """Add files. One of the same name in the space is replaced, once the new one can be searched."""
    from fluidcrew import knowing

    return asyncio.run(knowing.add(files, space, title=title, tags=tag or [], waiting=wait, as_json=json))


@group.command("ls")
@of_a_company
def list_documents(
    space: AnySpace = "",
    state: Annotated[StateChoice | None, typer.Option(help="Only these.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=200, help="How many, the newest first.")] = 50,
    json: Json = False,
) -> int:
    """List documents with their state, and what is wrong with those that cannot be searched."""
    from fluidcrew import knowing

    return asyncio.run(knowing.list_documents(space, state=state, limit=limit, as_json=json))


@group.command("search")
@of_a_company
def search(
    question: Annotated[str, typer.Argument(metavar="QUESTION", show_default=False, help="In full words.")],
    space: AnySpace = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100, help="How many passages.")] = 5,
    as_agent: Annotated[str | None, typer.Option(metavar="ID", help="What would this agent find?")] = None,
    json: Json = False,
) -> int:
    """Search: the best passages, where they stand, and what was searched."""
    from fluidcrew import knowing

    return asyncio.run(knowing.search(question, space, limit=limit, as_agent=as_agent, as_json=json))


@group.command("rm")
@of_a_company
def remove(
    document: Annotated[
        str, typer.Argument(metavar="DOCUMENT", show_default=False, help="How its id begins, or its title.")
    ],
    space: AnySpace = "",
    json: Json = False,
) -> int:
    """Remove a document with all its versions."""
    from fluidcrew import knowing

    return asyncio.run(knowing.remove(document, space, as_json=json))


@group.command("spaces")
@of_a_company
def list_spaces(json: Json = False) -> int:
    """List spaces: whose they are, who may read, how much is in them."""
    from fluidcrew import knowing

    return asyncio.run(knowing.list_spaces(as_json=json))


@group.command("new")
@of_a_company
def new(
    name: Annotated[str, typer.Argument(show_default=False, help="Of the new space.")],
    language: Annotated[LanguageChoice, typer.Option(help="Of its documents.")] = LanguageChoice.en,
    project: Annotated[str, typer.Option(metavar="SLUG", help="For agents at work in it.")] = "",
    agent: Annotated[str, typer.Option(metavar="ID", help="For this agent only.")] = "",
    reader: Annotated[
        list[str] | None,
        typer.Option(metavar="WHO", help="role:…, agent:… or unit:…; everybody, when none is given."),
    ] = None,
    json: Json = False,
) -> int:
    """Make a space: of the company, of a project, or of one agent."""
    from fluidcrew import knowing

    return asyncio.run(knowing.new(name, language=language, project=project, agent=agent, readers=reader, as_json=json))


@group.command("drop")
@of_a_company
def drop(
    space: TheSpace,
    force: Annotated[bool, typer.Option("--force", help="With the documents in it.")] = False,
    json: Json = False,
) -> int:
    """Remove a space."""
    from fluidcrew import knowing

    return asyncio.run(knowing.drop(space, force=force, as_json=json))
