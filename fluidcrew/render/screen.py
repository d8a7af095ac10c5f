"""The consoles everything is printed on."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from chassis.printable import printable

WIDE = 160  # columns when nobody's terminal says otherwise: pipes and files


class Screen(Console):
    """rich's, except for other people's control characters, and for a reader who has left: that is the caller's business."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Titles, errors and results are other people's text: only rich itself may give the terminal orders."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable(text), style, control)

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


def painted(text: Text) -> str:
    """With the terminal's colours where standard output has them: for who prints lines by itself."""
    screen = console()
    with screen.capture() as captured:
        screen.print(text, soft_wrap=True, end="")
    return captured.get()


def is_live(screen: Console) -> bool:
    """Whether lines may be redrawn."""
    return screen.is_terminal and not screen.is_dumb_terminal
