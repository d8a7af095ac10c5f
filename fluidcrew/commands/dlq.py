"""`dlq`: what a consumer gave up on; listed, shown, handled again."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

group = typer.Typer(no_args_is_help=True, help="Dead letters: messages a consumer gave up on.")
Letter = Annotated[str, typer.Argument(metavar="LETTER", help="Id of a dead letter, as `dlq list` shows it.")]
Owner = Annotated[str, typer.Option(help="Service whose consumer gave up; all of them otherwise.")]


@group.command("list")
def list_letters(
    owner: Owner = "",
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=200, help="How many per service, the newest first.")
    ] = 20,
) -> int:
    """List dead letters."""
    from fluidcrew import letters

    return asyncio.run(letters.list_letters(owner, limit))


@group.command()
def show(letter: Letter, owner: Owner = "") -> int:
    """Show a dead letter with its headers and body."""
    from fluidcrew import letters

    return asyncio.run(letters.show(letter, owner))


@group.command()
def replay(letter: Letter, owner: Owner = "") -> int:
    """Let its consumer handle it again, as a new message; mend what made it fail first."""
    from fluidcrew import letters

    return asyncio.run(letters.replay(letter, owner))
