"""A plan as a tree: what is to be done, by which role, what it hands over, and how many criteria decide about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from fluidcrew.render import words
from fluidcrew.render.columns import aligned
from fluidcrew.render.dag import Row, rows


class PlanTree:
    """Of a graph as the API answers it."""

    def __init__(self, graph: Mapping[str, Any]) -> None:
        self._nodes = {str(node["id"]): node for node in graph.get("plan", ())}

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        deps = {key: tuple(node.get("deps") or ()) for key, node in self._nodes.items()}
        drawn = rows(deps, ascii_only=options.ascii_only)
        for line in aligned([self._line(row) for row in drawn], options.max_width):
            line.no_wrap, line.overflow = True, "ellipsis"
            yield line

    def _line(self, row: Row) -> tuple[Text, list[Text]]:
        node = self._nodes[row.key]
        title = Text.assemble((row.guide, "bright_black"), str(node.get("title") or row.key))
        if row.also:
            title.append(f"  (also after {', '.join(row.also)})", style="bright_black")
        role = Text(str(node.get("suggested_agent_role") or ""), style="cyan")
        return title, [role, Text(_criteria(node)), Text(_owed(node))]


def _criteria(node: Mapping[str, Any]) -> str:
    number = len(node.get("acceptance") or ())
    return words.count(number, "criterion", "criteria") if number else ""


def _owed(node: Mapping[str, Any]) -> str:
    names = [" ".join(filter(None, (item.get("kind"), item.get("path")))) for item in node.get("deliverables") or ()]
    return words.one_line(f"owes {', '.join(names)}", 60) if names else ""
