"""The findings of the doctor as a list."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from rich.text import Text

if TYPE_CHECKING:
    from fluidcrew.check import Check


def check_lines(checks: Iterable[Check]) -> Iterator[Text]:
    for check in checks:
        word, style = ("ok", "green") if check.ok else ("FAILED", "bold red") if check.fatal else ("warning", "yellow")
        line = Text(f"{word:<8}", style=style)
        line.append(f"{check.name}: ", style="bold")
        line.append(check.detail)
        if check.fix and not check.ok:
            line.append(f"\n          fix: {check.fix}", style=style)
        yield line
