"""What waits for a node, near or far?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from contracts.executor import NodeStatus
from services.executor.domain.status import NODE_DONE


class Link(NamedTuple):
    key: str
    deps: Sequence[str]
    status: NodeStatus


def waits_for(key: str, links: Sequence[Link]) -> list[str]:
    """Keys in plan order. What a skipped node is followed by does not wait."""
    reached, left = {key}, [key]
    while left:
        dep = left.pop()
        for link in links:
            if dep in link.deps and link.key not in reached and link.status is not NodeStatus.SKIPPED:
                reached.add(link.key)
                left.append(link.key)
    return [link.key for link in links if link.key in reached - {key} and link.status not in NODE_DONE]
