"""docs/state-machine.md: the legal moves of runs, nodes and tasks, drawn from the mappings that the code obeys."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum

from services.executor.domain import status as executor
from services.planner.domain import task as planner

HEAD = """\
# State machines

Generated from the mappings in `services/*/domain`; the database repeats them as constraints and refuses what they refuse.
"""


def _chart(title: str, legal: Mapping[StrEnum, Collection[StrEnum]], initial: StrEnum) -> str:
    moves = [f"    {a} --> {b}" for a, after in legal.items() for b in sorted(after)]
    ends = [f"    {a} --> [*]" for a, after in legal.items() if not after]
    lines = [f"    [*] --> {initial}", *moves, *ends]
    return "\n".join([f"\n## {title}\n", "```mermaid", "stateDiagram-v2", *lines, "```"])


def page() -> str:
    parts = [
        HEAD,
        _chart("Runs", executor.RUN_LEGAL, executor.RunStatus.QUEUED),
        _chart("Nodes", executor.NODE_LEGAL, executor.NodeStatus.QUEUED),
        _chart("Tasks", planner.LEGAL, planner.TaskStatus.DRAFT),
    ]
    return "\n".join(parts) + "\n"
