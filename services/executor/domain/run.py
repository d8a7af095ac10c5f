"""Where does a run stand: which of its nodes are done, which run, which may start, and when does it need attention?"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from contracts.executor import NodeStatus, RunStatus
from contracts.message import Event
from services.executor.domain.facts import NO_EFFORT, NOTHING, Effort, Output, Spend
from services.executor.domain.graph import Graph, Plan
from services.executor.domain.retry import History
from services.executor.domain.status import NODE_DONE

NO_REASONS: frozenset[str] = frozenset()


class AttemptStatus(StrEnum):
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    LOST = "lost"  # its executor died, or gave it back
    CANCELED = "canceled"  # cut off on somebody's order


class Node(NamedTuple):
    """Tuples, because a run is copied with every fact: `_replace` takes a quarter of the time of `dataclasses.replace`."""

    plan: Plan
    status: NodeStatus = NodeStatus.QUEUED
    blocked: int = 0  # dependencies that are not done
    attempt: int = 0  # number of the latest attempt; 0 before the first
    failures: int = 0
    losses: int = 0
    waits: int = 0
    due_at: datetime | None = None  # not before; None is now
    error: str | None = None
    pause_reasons: frozenset[str] = NO_REASONS  # a running node that has some is paused instead of being repeated
    parked_on: str | None = None  # provider/model that is not to be had

    def history(self) -> History:
        return History(self.failures, self.losses, self.waits, self.plan.max_attempts)


class Run(NamedTuple):
    """A run as its owner knows it. `ready` are queued nodes whose dependencies are done, due or not, oldest first."""

    id: UUID
    company: str
    task_id: UUID | None
    title: str
    graph: Graph
    timeout: timedelta | None
    status: RunStatus
    nodes: Mapping[str, Node]
    ready: tuple[str, ...]
    running: frozenset[str]
    pause_reasons: frozenset[str] = NO_REASONS
    error: str | None = None
    time_left: timedelta | None = None  # of the timeout, while the clock stands
    deadline: datetime | None = None  # while it ticks
    spend: Spend = NOTHING
    started_at: datetime | None = None
    ended_at: datetime | None = None


class Opened(NamedTuple):
    """An attempt that begins with this step's commit."""

    node: Plan
    number: int


class Closed(NamedTuple):
    """An attempt that ends with this step's commit."""

    node: Plan
    number: int
    status: AttemptStatus
    error: str | None = None
    effort: Effort = NO_EFFORT
    output: Output | None = None


class Overridden(NamedTuple):
    """What a person replaced in a node: None is left as it was, `params` are laid over the node's own."""

    node: Plan
    prompt: str | None
    params: Mapping[str, Any] | None


class Step(NamedTuple):
    """What a fact made of a run. `moved` are the keys of nodes that changed, `interrupted` of those to stop at once,
    `requeued` of those that had ended and run again: what they produced before belongs to their attempt."""

    run: Run
    messages: Sequence[Event] = ()
    moved: Sequence[str] = ()
    opened: Sequence[Opened] = ()
    closed: Sequence[Closed] = ()
    interrupted: Sequence[str] = ()
    requeued: Sequence[str] = ()
    overridden: Sequence[Overridden] = ()


def standing(graph: Graph, nodes: Iterable[Node]) -> tuple[dict[str, Node], tuple[str, ...], frozenset[str]]:
    """Nodes by key, ready and running ones, rebuilt from what is stored; `nodes` need not know how blocked they are."""
    found = {node.plan.key: node for node in nodes}
    done = {key for key, node in found.items() if node.status in NODE_DONE}
    placed = {key: found[key]._replace(blocked=len(set(plan.deps) - done)) for key, plan in graph.plans.items()}
    queued = (n for n in placed.values() if n.status is NodeStatus.QUEUED and n.blocked == 0)
    return (
        placed,
        tuple(node.plan.key for node in queued),
        frozenset(key for key, node in placed.items() if node.status is NodeStatus.RUNNING),
    )


def startable(run: Run, now: datetime, apart_from: Container[str] = ()) -> str | None:
    """The node that may start next, if the run is allowed to move and one is due."""
    if not _moves(run):
        return None
    return next((key for key in run.ready if _is_due(run.nodes[key], now) and key not in apart_from), None)


def is_parked(run: Run) -> bool:
    return any(run.nodes[key].parked_on for key in run.ready)


def is_current(run: Run, key: str, attempt: int) -> bool:
    node = run.nodes[key]
    return node.status is NodeStatus.RUNNING and node.attempt == attempt


def may_start(run: Run, key: str, now: datetime) -> bool:
    return _moves(run) and key in run.ready and _is_due(run.nodes[key], now)


def next_instant(run: Run, now: datetime) -> datetime | None:
    """When the run needs attention even if nothing happens: a retry falls due or its time is over."""
    if run.status is not RunStatus.RUNNING:
        return None
    instants = [run.deadline] if run.deadline else []
    if not run.pause_reasons:
        instants += [due for key in run.ready if (due := run.nodes[key].due_at) and due > now]
    return min(instants, default=None)


def _moves(run: Run) -> bool:
    return run.status is RunStatus.RUNNING and not run.pause_reasons


def _is_due(node: Node, now: datetime) -> bool:
    return node.due_at is None or node.due_at <= now
