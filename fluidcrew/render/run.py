"""A run as people see it: a tree of its nodes with states, durations, tokens and cost, and how far it is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from chassis.printable import printable
from fluidcrew.progress import BY_ORDER, NodeView, RunView
from fluidcrew.render import words
from fluidcrew.render.columns import aligned
from fluidcrew.render.dag import Row, rows

NARROW = 78  # columns below which tokens and cost are left to the summary
WIDE = 110  # beside keys and titles there is room for tokens from here on
BUSY = frozenset({"running", "reviewing", "paused", "failed"})

Now = Callable[[], datetime]


def utc_now() -> datetime:
    return datetime.now(UTC)


class RunTree:
    """Drawn anew at each refresh. With `height` it shows only as many nodes as fit, those where something happens first.

    With `keys` each node is shown with the name by which orders know it.
    """

    def __init__(self, view: RunView, now: Now = utc_now, height: int | None = None, *, keys: bool = False) -> None:
        self._view, self._now, self._height, self._keys = view, now, height, keys

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        ascii_only, now = options.ascii_only, self._now()
        spent = _columns(options.max_width, keys=self._keys)
        room = None if self._height is None else max(3, (self._height or options.size.height) - 4)
        shown, hidden = visible(self._view, room, ascii_only=ascii_only)
        nodes = [(row, self._view.nodes[row.key]) for row in shown]
        lines = [
            (_title(row, node, ascii_only, self._keys), _figures(self._view.state_of(node), node, now, spent))
            for row, node in nodes
        ]
        for line in aligned(lines, options.max_width):
            line.no_wrap, line.overflow = True, "ellipsis"
            yield line
        if hidden:
            yield Text(f"   and {hidden} more", style="bright_black")


def visible(view: RunView, room: int | None, *, ascii_only: bool = False) -> tuple[list[Row], int]:
    """The rows to show and how many are left out."""
    every = rows({key: node.deps for key, node in view.nodes.items()}, ascii_only=ascii_only)
    if room is None or len(every) <= room:
        return every, 0
    busy = [Row("", row.key) for row in every if view.nodes[row.key].status in BUSY]
    waiting = [Row("", row.key) for row in every if view.nodes[row.key].status == "queued"]
    shown = (busy + waiting)[:room]
    return shown, len(every) - len(shown)


def _title(row: Row, node: NodeView, ascii_only: bool, keys: bool) -> Text:
    text = Text(row.guide, style="bright_black")
    text.append(words.mark(node.status, ascii_only=ascii_only), style=words.colour(node.status))
    if keys and node.key != node.title:
        text.append(f" {node.key}", style="cyan")
    text.append(
        f" {node.title}", style="bold" if node.status in BUSY else "bright_black" if node.status == "queued" else ""
    )
    if row.also:
        text.append(f"  (also after {', '.join(row.also)})", style="bright_black")
    if node.error and not keys:
        text.append(f"  {words.one_line(node.error, 100)}", style="red" if node.status == "failed" else "yellow")
    return text


def _columns(width: int, *, keys: bool) -> tuple[str, ...]:
    """What of a node's spending there is room for."""
    if width < NARROW:
        return ()
    return ("cost",) if keys and width < WIDE else ("tokens", "cost")


def _figures(state: str, node: NodeView, now: datetime, spent: tuple[str, ...]) -> list[Text]:
    state = state if node.attempt < 2 else f"{state}, attempt {node.attempt}"
    state = f"{state}, reused" if node.reused else state
    state = state if node.score is None else f"{state}, {node.score}/100"
    took = Text(elapsed_of(node, now), style="cyan" if node.status == "running" else "")
    figures = {"tokens": words.count(node.tokens, "token"), "cost": words.money(*node.cost)}
    shown = [Text(figures[name] if node.status == "completed" else "") for name in spent]
    return [Text(state, style=words.colour(node.status)), took, *shown]


def elapsed_of(node: NodeView, now: datetime) -> str:
    if node.status == "running" and node.started_at is not None:
        return words.duration(max(0.0, (now - node.started_at).total_seconds()))
    if node.status == "queued" and node.due_at is not None and node.due_at > now:
        return f"again in {words.duration((node.due_at - now).total_seconds())}"
    return words.of_ms(node.duration_ms)


class RunProgress:
    """A bar, and the figures so far."""

    def __init__(self, view: RunView, now: Now = utc_now) -> None:
        self._view, self._now = view, now

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        view, total = self._view, max(1, len(self._view.nodes))
        width = max(10, min(40, options.max_width - 50))
        bar = ProgressBar(total=total, completed=view.ended, width=width, finished_style=words.colour(view.status))
        table = Table.grid(padding=(0, 2))
        table.add_row(bar, Text(figures(view, self._now())))
        yield table


def figures(view: RunView, now: datetime | None = None) -> str:
    """`4/7 nodes · 1,240 tokens · $0.0031 · 2.4 s`"""
    parts = [
        f"{view.completed}/{words.count(len(view.nodes), 'node')}",
        words.count(view.tokens, "token"),
        words.money(*view.cost),
    ]
    if view.started_at is not None:
        end = view.ended_at or now
        parts += [words.duration(max(0.0, (end - view.started_at).total_seconds()))] if end else []
    return " · ".join(parts)


def headline(view: RunView) -> Text:
    text = Text("Run ", style="bold")
    text.append(view.title or view.id, style="bold")
    text.append(f"  {view.status}", style=words.colour(view.status))
    if told := view.asked or ", ".join(reason for reason in view.reasons if reason != BY_ORDER):
        text.append(f" ({told})", style="yellow")
    if view.held:
        text.append("  needs attention", style="bold yellow")
    if view.dry_run:
        text.append("  dry run: no model is called", style="bright_black")
    return text


def summary(view: RunView) -> Text:
    """The last line about a run: how it ended and what it took."""
    counts: dict[str, int] = {}
    for node in view.nodes.values():
        state = view.state_of(node)
        counts[state] = counts.get(state, 0) + 1
    odd = [f"{number} {status}" for status, number in counts.items() if status != "completed"]
    text = Text(view.status, style=f"bold {words.colour(view.status)}")
    text.append(f"  {figures(view)}" + (f" · {', '.join(odd)}" if odd else ""))
    if view.error:
        text.append(f"\n{words.one_line(view.error, 400)}", style="red")
    return text


def markdown(text: str) -> RenderableType:
    from rich.markdown import Markdown  # costs as much as everything else together

    return Markdown(printable(text))
