"""The state machines as Mermaid charts, from the same mappings that rule them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from services.executor.domain.status import NODE_FINAL, NODE_LEGAL, RUN_FINAL, RUN_LEGAL

S = TypeVar("S", bound=StrEnum)


def mermaid(legal: Mapping[S, frozenset[S]], final: frozenset[S]) -> str:
    """A stateDiagram-v2; `final` states lead to the end, whether or not they may be reopened."""
    first = next(iter(legal))
    moves = [f"    {state} --> {after}" for state in legal for after in legal if after in legal[state]]
    ends = [f"    {state} --> [*]" for state in legal if state in final]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {first}", *moves, *ends])


def chapters() -> list[str]:
    """Those of docs/state-machine.md that are about runs and their nodes."""
    return [chapter("Runs", mermaid(RUN_LEGAL, RUN_FINAL)), chapter("Nodes", mermaid(NODE_LEGAL, NODE_FINAL))]


def chapter(title: str, chart: str) -> str:
    return f"## {title}\n\n```mermaid\n{chart}\n```\n"
