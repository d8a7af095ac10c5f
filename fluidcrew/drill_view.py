"""What a drill looks like: the strikes while it goes on, and what came of them at the end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from fluidcrew.drill_witness import Verdict
from fluidcrew.progress import RunView
from fluidcrew.render import words

MOST_LINES = 10


@dataclass(slots=True)
class Strike:
    """`done` nodes were completed then; times in seconds since the epoch."""

    name: str
    done: int
    at: float
    recovered: float | None = None

    @property
    def seconds(self) -> float | None:
        return None if self.recovered is None else self.recovered - self.at


@dataclass(frozen=True, slots=True)
class Drilled:
    """`spared` names what was to be killed, had the run not been over first."""

    view: RunView
    strikes: Sequence[Strike]
    verdict: Verdict
    spared: Sequence[str] = ()

    @property
    def passed(self) -> bool:
        return self.view.status == "completed" and self.verdict.clean and not self.spared


class Strikes:
    """One line each, with the time since while nothing has come through yet."""

    def __init__(self, strikes: Sequence[Strike]) -> None:
        self._strikes = strikes

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for strike in self._strikes:
            line = Text(f"killed {strike.name}", style="bold red")
            line.append(f" with {words.count(strike.done, 'node')} done  ", style="default")
            if strike.seconds is None:
                line.append(f"{words.duration(time.time() - strike.at)} …", style="yellow")
            else:
                line.append(f"went on after {words.duration(strike.seconds)}", style="green")
            yield line


def report(drilled: Drilled) -> Table:
    """What was done, and what the witnesses say."""
    found, table = drilled.verdict, Table.grid(padding=(0, 2))
    table.add_row(Text("run", style="cyan"), f"{drilled.view.status}, {words.count(len(drilled.view.nodes), 'node')}")
    for strike in drilled.strikes:
        went_on = "never" if strike.seconds is None else f"after {words.duration(strike.seconds)}"
        table.add_row(
            Text("killed", style="cyan"), f"{strike.name} at {words.count(strike.done, 'node')}; went on {went_on}"
        )
    for name in drilled.spared:
        table.add_row(Text("spared", style="red"), f"{name}: the run was over first; run the drill again")
    cut = f", {found.cut_off} of them cut off with their workers and made again" if found.cut_off else ""
    table.add_row(Text("model server", style="cyan"), f"{words.count(found.calls, 'call')}{cut}")
    table.add_row(Text("watcher", style="cyan"), f"{words.count(found.facts, 'fact')} in order")
    for what, lines in (("lost", found.lost), ("repeated", found.repeated)):
        for line in lines[:MOST_LINES]:
            table.add_row(Text(what, style="red"), line)
    return table


def final_line(drilled: Drilled) -> Text:
    """`lost 0 · repeated 0 · recovered in N s`; the longest of the recoveries."""
    found = drilled.verdict
    seconds = [strike.seconds for strike in drilled.strikes]
    known = [s for s in seconds if s is not None]
    recovered = f"recovered in {max(known):.1f} s" if known and len(known) == len(seconds) else "did not recover"
    line = f"lost {len(found.lost)} · repeated {len(found.repeated)} · {recovered}"
    return Text(line, style="bold green" if drilled.passed else "bold red")
