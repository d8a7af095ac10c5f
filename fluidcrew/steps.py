"""Shows a sequence of steps with the time each took: a spinner while one is under way, a line when it is done."""

from __future__ import annotations

import os
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.spinner import Spinner
from rich.text import Text

from fluidcrew.progress import Happened
from fluidcrew.render import words
from fluidcrew.render.facts import happened_line
from fluidcrew.render.redrawing import redrawn
from fluidcrew.render.screen import is_live


def began() -> float:
    """When the reader pressed enter, in seconds since the epoch: make says when it started, else this process did."""
    given = os.environ.get("FLUIDCREW_BEGAN", "")
    if re.fullmatch(r"\d+(\.\d+)?", given):
        return float(given)
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError, AttributeError):
        return time.time()  # not Linux: the interpreter's own start is not counted


@dataclass(slots=True)
class Step:
    label: str
    detail: str = ""
    spinner: Spinner | None = None  # none where lines cannot be redrawn


@dataclass(slots=True)
class Steps:
    screen: Console
    seconds: dict[str, float] = field(default_factory=dict)  # by label, added up

    @asynccontextmanager
    async def step(self, doing: str, done: str, name: str = "") -> AsyncIterator[Step]:
        """`name` is the word under which its time appears in the summary."""
        step, started = Step(done), time.monotonic()
        if is_live(self.screen):
            step.spinner = Spinner("dots", Text(f" {doing} …"), style="cyan")
            async with redrawn(self.screen, step.spinner):
                yield step
        else:
            yield step
        took = time.monotonic() - started
        if name:
            self.add(name, took)
        self._done(step, took)

    def told(self, step: Step, happened: Happened) -> None:
        """A fact about the step under way: beside its spinner when it is about trouble, as a line where there is none."""
        line = happened_line(happened)
        if step.spinner is None:
            self.screen.print(line, soft_wrap=True)
        elif "due_at" in happened.told:
            step.spinner.update(text=Text.assemble(" ", line))

    def add(self, name: str, seconds: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def _done(self, step: Step, took: float) -> None:
        ascii_only = not self.screen.encoding.startswith("utf")
        line = Text(words.mark("completed", ascii_only=ascii_only), style="green")
        line.append(f" {step.label}", style="default")
        if step.detail:
            line.append(f"  {step.detail}", style="bright_black")
        line.append(f"  {words.duration(took)}", style="bright_black")
        self.screen.print(line, soft_wrap=True)

    def summary(self) -> str:
        return " · ".join(f"{name} {words.duration(seconds)}" for name, seconds in self.seconds.items())
