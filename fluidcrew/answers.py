"""How a command shows what the API answered: as JSON for programs, as a list for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from chassis.printable import json_text
from fluidcrew.exits import Exit
from fluidcrew.render.screen import console


def print_json(answer: Any) -> int:
    print(json_text(answer, indent=2))
    return Exit.OK


def print_page(page: Mapping[str, Any], table: Callable[[Sequence[Any]], RenderableType], *, nothing: str) -> int:
    """And how many more there are, or that there are none."""
    screen, items = console(), page["items"]
    if not items:
        screen.say(Text(nothing, style="bright_black"))
        return Exit.OK
    screen.print(table(items))
    if page["total"] > len(items):
        screen.say(Text(f"{len(items)} of {page['total']:,}; more with --limit", style="bright_black"))
    return Exit.OK
