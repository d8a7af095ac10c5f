"""docs/state-machine.md: the legal moves of runs, nodes and tasks, drawn from the mappings that the code obeys."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import TypeVar

from contracts.executor import NodeStatus, RunStatus
from contracts.planner import TaskStatus
from services.executor.domain.status import NODE_LEGAL, RUN_LEGAL
from services.planner.domain.task import LEGAL

HEAD = """\
# State machines

Generated from the mappings in `services/*/domain`; the database repeats them as constraints and refuses what they refuse.
"""


S = TypeVar("S", bound=StrEnum)


def _chart(title: str, legal: Mapping[S, Collection[S]], initial: S) -> str:
    moves = [f"    {a} --> {b}" for a, after in legal.items() for b in sorted(after)]
    ends = [f"    {a} --> [*]" for a, after in legal.items() if not after]
    lines = [f"    [*] --> {initial}", *moves, *ends]
    return "\n".join([f"\n## {title}\n", "```mermaid", "stateDiagram-v2", *lines, "```"])


def page() -> str:
    parts = [
        HEAD,
        _chart("Runs", RUN_LEGAL, RunStatus.QUEUED),
        _chart("Nodes", NODE_LEGAL, NodeStatus.QUEUED),
        _chart("Tasks", LEGAL, TaskStatus.DRAFT),
    ]
    return "\n".join(parts) + "\n"
