"""Which states can a run and a node be in, and which moves between them are legal?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from contracts.errors import FluidcrewError
from contracts.executor import NodeStatus, RunStatus

S = TypeVar("S", RunStatus, NodeStatus)

RUN_LEGAL: Mapping[RunStatus, frozenset[RunStatus]] = {
    RunStatus.QUEUED: frozenset(
        {
            RunStatus.RUNNING,
            RunStatus.PAUSED,
            RunStatus.COMPLETED,  # all its results are those of an earlier run
            RunStatus.FAILED,
            RunStatus.CANCELED,
        }
    ),
    RunStatus.RUNNING: frozenset({RunStatus.PAUSED, RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELED}),
    RunStatus.PAUSED: frozenset({RunStatus.RUNNING, RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELED}),
    RunStatus.COMPLETED: frozenset({RunStatus.RUNNING}),  # a node of it runs again
    RunStatus.FAILED: frozenset({RunStatus.RUNNING, RunStatus.COMPLETED}),  # reopened; all that failed was skipped
    RunStatus.CANCELED: frozenset(),
}

NODE_LEGAL: Mapping[NodeStatus, frozenset[NodeStatus]] = {
    NodeStatus.QUEUED: frozenset({NodeStatus.RUNNING, NodeStatus.PAUSED, NodeStatus.SKIPPED, NodeStatus.CANCELED}),
    NodeStatus.RUNNING: frozenset(
        {
            NodeStatus.QUEUED,  # the attempt failed, was lost or was handed back
            NodeStatus.REVIEWING,
            NodeStatus.PAUSED,
            NodeStatus.COMPLETED,
            NodeStatus.FAILED,
            NodeStatus.SKIPPED,
            NodeStatus.CANCELED,
        }
    ),
    NodeStatus.REVIEWING: frozenset(
        {NodeStatus.QUEUED, NodeStatus.PAUSED, NodeStatus.COMPLETED, NodeStatus.FAILED, NodeStatus.CANCELED}
    ),
    NodeStatus.PAUSED: frozenset({NodeStatus.QUEUED, NodeStatus.COMPLETED, NodeStatus.SKIPPED, NodeStatus.CANCELED}),
    NodeStatus.COMPLETED: frozenset({NodeStatus.QUEUED, NodeStatus.PAUSED}),  # stale; a late critical verdict
    NodeStatus.FAILED: frozenset({NodeStatus.QUEUED, NodeStatus.SKIPPED}),
    NodeStatus.SKIPPED: frozenset(),
    NodeStatus.CANCELED: frozenset(),
}

#: Final is what cannot be canceled any more. It may still be reopened on somebody's order.
RUN_FINAL = frozenset(s for s, after in RUN_LEGAL.items() if RunStatus.CANCELED not in after)
NODE_FINAL = frozenset(s for s, after in NODE_LEGAL.items() if NodeStatus.CANCELED not in after)
NODE_DONE = frozenset({NodeStatus.COMPLETED, NodeStatus.SKIPPED})  # what depends on it may go on
NODE_HELD = frozenset({NodeStatus.REVIEWING, NodeStatus.PAUSED})  # waits for a verdict or a person


class IllegalMove(FluidcrewError):
    """A run or node was to go where its state does not lead."""


def moved(legal: Mapping[S, frozenset[S]], current: S, wanted: S, what: str) -> S:
    """`wanted`, or IllegalMove naming what was to move."""
    if wanted not in legal[current]:
        raise IllegalMove(f"{what} cannot go from {current} to {wanted}")
    return wanted
