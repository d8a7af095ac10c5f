"""`tail`: what happens, as it happens, off the bus itself."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Annotated

import typer

EXAMPLES = """\b
Examples:
  fluidcrew tail --since 10m
  fluidcrew tail --run 3f2a91c0 --tokens
  fluidcrew tail --subject node.failed --json | jq .data.error"""


def tail(
    company: Annotated[str, typer.Option(envvar="FLUIDCREW_COMPANY", help="Only this company's.")] = "",
    run: Annotated[str, typer.Option(metavar="ID", help="Only this run's; its id, or how it begins.")] = "",
    subject: Annotated[
        str, typer.Option(help="Only these: node, node.completed, or a whole filter such as 'evt.*.planner.>'.")
    ] = "",
    since: Annotated[
        str,
        typer.Option(metavar="WHEN", help="Begin in the past: 10m, 1h30m, a moment (RFC 3339) or a sequence number."),
    ] = "",
    tokens: Annotated[
        bool, typer.Option("--tokens", help="Also the text that models are producing right now.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
) -> None:
    """Show what happens, live from the bus; goes on over restarts of the broker. Ctrl-C ends it."""
    from fluidcrew.listening import Wish, listen
    from fluidcrew.since import parse_since

    begin = parse_since(since) if since else None
    with suppress(KeyboardInterrupt, asyncio.CancelledError):  # there is no other way to end it
        asyncio.run(listen(Wish(company, run, subject, begin, tokens=tokens), as_json=json))
