"""What stands between a node and its turn, anywhere before it in the plan?"""

from __future__ import annotations

from collections.abc import Mapping

from contracts.executor import NodeStatus
from services.executor.domain.run import VERDICT
from services.executor.domain.scene import SceneNode
from services.executor.domain.status import NODE_DONE

BROKEN = frozenset({NodeStatus.FAILED, NodeStatus.CANCELED})


def held_before(node: SceneNode, by_key: Mapping[str, SceneNode]) -> list[str]:
    """Nodes with a result that this one stands on, and that a verdict holds; in plan order."""
    found, seen, left = set[str](), set[str](), list(node.deps)
    while left:
        dep = by_key[left.pop()]
        if dep.key in seen or dep.status is NodeStatus.SKIPPED:
            continue
        seen.add(dep.key)
        if dep.status is NodeStatus.PAUSED and VERDICT in dep.pause_reasons:
            found.add(dep.key)
        else:
            left.extend(dep.deps)
    return [key for key in by_key if key in found]


def broken_before(node: SceneNode, by_key: Mapping[str, SceneNode]) -> list[str]:
    """Nodes that failed, somewhere before this one with nothing done in between; in plan order."""
    found: set[str] = set()
    seen: set[str] = set()
    left = list(node.deps)
    while left:
        dep = by_key[left.pop()]
        if dep.key in seen or dep.status in NODE_DONE:
            continue
        seen.add(dep.key)
        if dep.status in BROKEN:
            found.add(dep.key)
        else:
            left.extend(dep.deps)
    return [key for key in by_key if key in found]
