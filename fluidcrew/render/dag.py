"""Draws a graph of dependencies as a tree: each node hangs below one it waits for, the others are named beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the tree: the guides before the node, its key, and what else it waits for."""

    guide: str
    key: str
    also: tuple[str, ...] = ()


UNICODE = ("├─ ", "└─ ", "│  ", "   ")
ASCII = ("|- ", "`- ", "|  ", "   ")
DEEPEST = 24  # columns of guides: a long chain of nodes must leave room for their titles


def rows(deps: Mapping[str, Sequence[str]], *, ascii_only: bool = False) -> list[Row]:
    """In the order of the plan; a node stands below the deepest of its dependencies, of several the last one named."""
    depth = _depths(deps)
    known = {key: _known(waits, deps, key) for key, waits in deps.items()}
    parent = {key: max(reversed(waits), key=lambda d: depth[d]) for key, waits in known.items() if waits}
    drawing = _Drawing(deps, parent, ASCII if ascii_only else UNICODE)
    drawing.draw("", "")
    return drawing.rows


def _known(waits: Sequence[str], deps: Mapping[str, Sequence[str]], key: str) -> list[str]:
    return [d for d in waits if d in deps and d != key]


def _depths(deps: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Longest way from a root. Graphs come checked, yet a cycle must not hang the one who looks at it."""
    depth = dict.fromkeys(deps, 0)
    for _ in deps:
        before = dict(depth)
        for key, waits in deps.items():
            depth[key] = min(len(deps), max((depth[d] + 1 for d in _known(waits, deps, key)), default=0))
        if depth == before:
            break
    return depth


class _Drawing:
    def __init__(self, deps: Mapping[str, Sequence[str]], parent: Mapping[str, str], signs: Sequence[str]) -> None:
        self.rows: list[Row] = []
        self._deps, self._parent, self._signs = deps, parent, signs
        self._children: dict[str, list[str]] = {}
        for key in deps:
            self._children.setdefault(parent.get(key, ""), []).append(key)

    def draw(self, of: str, guide: str) -> None:
        """Everything below a node; "" is above the roots, which have no guides."""
        fork, end, through, clear = self._signs if of else ("", "", "", "")
        below = self._children.get(of, [])
        for key in below:
            last = key == below[-1]
            also = tuple(d for d in self._deps[key] if d != self._parent.get(key))
            self.rows.append(Row(guide + (end if last else fork), key, also))
            self.draw(key, guide + ("" if len(guide) >= DEEPEST else clear if last else through))
