"""The consoles everything is printed on."""

from __future__ import annotations

import os
import sys

from rich.console import Console
from rich.text import Text

WIDE = 160  # columns when nobody's terminal says otherwise: pipes and files


class Screen(Console):
    """rich's, except that a reader who has left is the caller's business."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        raise BrokenPipeError

    def say(self, text: Text | str) -> None:
        """A sentence: wrapped between words for a reader, left whole for a file."""
        self.print(text, soft_wrap=not self.is_terminal)


def console(*, stderr: bool = False) -> Screen:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or os.environ.get("COLUMNS") else WIDE
    return Screen(file=stream, highlight=False, width=width, emoji=False, markup=False)


def is_live(screen: Console) -> bool:
    """Whether lines may be redrawn."""
    return screen.is_terminal and not screen.is_dumb_terminal
