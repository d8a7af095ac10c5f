"""Where does a run stand: which of its nodes are done, which run, which may start, and when does it need attention?"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from contracts.executor import NodeStatus, RunStatus
from contracts.message import Event
from contracts.refs import DEFAULT_PROJECT
from contracts.review import Guidance, OverduePolicy
from contracts.verdict import Verdict
from services.executor.domain.facts import NO_EFFORT, NOTHING, Effort, Output, Spend
from services.executor.domain.graph import Graph, Plan
from services.executor.domain.retry import History
from services.executor.domain.status import NODE_DONE, RUN_FINAL

NO_REASONS: frozenset[str] = frozenset()
VERDICT = "verdict"  # the reason to be paused of a node whose result is not accepted


class AttemptStatus(StrEnum):
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    LOST = "lost"  # its executor died, or gave it back
    CANCELED = "canceled"  # cut off on somebody's order


class Heard(NamedTuple):
    """What a node keeps in mind of the latest verdict on its result. `by` is the person who gave it, if one did."""

    version: int
    score: int | None = None
    by: str | None = None


class Node(NamedTuple):
    """A tuple, because it is copied with every move: `_replace` takes a quarter of the time of `dataclasses.replace`."""

    plan: Plan
    status: NodeStatus = NodeStatus.QUEUED
    blocked: int = 0  # dependencies that are not done, and one more while it stands on what a verdict holds
    attempt: int = 0  # number of the latest attempt; 0 before the first
    failures: int = 0
    losses: int = 0
    waits: int = 0
    due_at: datetime | None = None  # not before; None is now. Of a result: until when its verdict may take
    error: str | None = None
    pause_reasons: frozenset[str] = NO_REASONS  # a running node that has some is paused instead of being repeated
    parked_on: str | None = None  # provider/model that is not to be had
    heard: Heard | None = None  # forgotten with the result

    def history(self) -> History:
        return History(self.failures, self.losses, self.waits, self.plan.max_attempts)


class ReviewRules(NamedTuple):
    """How long a run's results wait for their verdicts, and what becomes of them then."""

    patience: timedelta | None = None  # None: for ever
    overdue: OverduePolicy = OverduePolicy.CLOSED


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
    project: str = DEFAULT_PROJECT
    review: ReviewRules = ReviewRules()
    activation: int = 0  # counts, over all runs of its task, which became active


class Course(Protocol):
    """What decides on what may happen next in a run: it is known of the run itself, and of a draft of it."""

    @property
    def status(self) -> RunStatus: ...
    @property
    def nodes(self) -> Mapping[str, Node]: ...
    @property
    def ready(self) -> Sequence[str]: ...
    @property
    def pause_reasons(self) -> frozenset[str]: ...
    @property
    def deadline(self) -> datetime | None: ...


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
    warnings: tuple[str, ...] = ()


class Overridden(NamedTuple):
    """What a person replaced in a node: None is left as it was, `params` are laid over the node's own."""

    node: Plan
    prompt: str | None
    params: Mapping[str, Any] | None = None
    llm_backend: str | None = None
    llm_model: str | None = None


class Guided(NamedTuple):
    """What a node's attempts are told from number `attempt` on. `on_top`: of what they were told before; else instead,
    with the critique of the verdict that was in force."""

    node: Plan
    attempt: int
    guidance: Guidance
    on_top: bool


class Step(NamedTuple):
    """What a fact made of a run. `moved` are the keys of nodes that changed, `interrupted` of those to stop at once,
    `requeued` of those that had ended and run again: what they produced before belongs to their attempt. `incomplete`
    are the positions of messages about results of earlier turns, which nobody keeps in memory."""

    run: Run
    messages: Sequence[Event] = ()
    moved: Sequence[str] = ()
    opened: Sequence[Opened] = ()
    closed: Sequence[Closed] = ()
    interrupted: Sequence[str] = ()
    requeued: Sequence[str] = ()
    overridden: Sequence[Overridden] = ()
    judged: Sequence[tuple[Plan, Verdict]] = ()
    guided: Sequence[Guided] = ()
    incomplete: Sequence[int] = ()


def standing(graph: Graph, nodes: Iterable[Node]) -> tuple[dict[str, Node], tuple[str, ...], frozenset[str]]:
    """Nodes by key, ready and running ones, rebuilt from what is stored; `nodes` need not know how blocked they are."""
    found = {node.plan.key: node for node in nodes}
    done = {key for key, node in found.items() if node.status in NODE_DONE}
    shaded = standing_on(graph, found, [key for key, node in found.items() if is_held(node)])
    placed = {
        key: found[key]._replace(blocked=len(set(plan.deps) - done) + (key in shaded))
        for key, plan in graph.plans.items()
    }
    queued = (n for n in placed.values() if n.status is NodeStatus.QUEUED and n.blocked == 0)
    return (
        placed,
        tuple(node.plan.key for node in queued),
        frozenset(key for key, node in placed.items() if node.status is NodeStatus.RUNNING),
    )


def standing_on(graph: Graph, nodes: Mapping[str, Node], keys: Iterable[str]) -> set[str]:
    """What was made, or would be, with the results of these. What a skipped node is followed by never saw one of them."""
    found: set[str] = set()
    reached = list(keys)
    while reached:
        for successor in graph.successors[reached.pop()]:
            if successor not in found and nodes[successor].status is not NodeStatus.SKIPPED:
                found.add(successor)
                reached.append(successor)
    return found


def is_held(node: Node) -> bool:
    """By a verdict on its result, or because none came in time."""
    return node.status is NodeStatus.PAUSED and VERDICT in node.pause_reasons


def has_result(node: Node) -> bool:
    """One that counts, or may still."""
    if node.status is NodeStatus.PAUSED:
        return VERDICT in node.pause_reasons or node.heard is not None
    return node.status in (NodeStatus.REVIEWING, NodeStatus.COMPLETED)


def startable(run: Course, now: datetime, apart_from: Container[str] = ()) -> str | None:
    """The node that may start next, if the run is allowed to move and one is due."""
    if not _moves(run):
        return None
    return next((key for key in run.ready if _is_due(run.nodes[key], now) and key not in apart_from), None)


def rests(run: Run, now: datetime) -> bool:
    """Nothing runs in it, and nothing may start before its next instant."""
    return not run.running and startable(run, now) is None


def is_parked(run: Course) -> bool:
    return any(run.nodes[key].parked_on for key in run.ready)


def is_current(run: Course, key: str, attempt: int) -> bool:
    node = run.nodes[key]
    return node.status is NodeStatus.RUNNING and node.attempt == attempt


def may_start(run: Course, key: str, now: datetime) -> bool:
    return _moves(run) and key in run.ready and _is_due(run.nodes[key], now)


def next_instant(run: Run, now: datetime) -> datetime | None:
    """When the run needs attention even if nothing happens: a retry falls due, a verdict is overdue, its time is over."""
    if run.status in RUN_FINAL:
        return None
    instants = [run.deadline] if run.deadline else []
    if run.review.patience is not None:
        instants += [n.due_at for n in run.nodes.values() if n.status is NodeStatus.REVIEWING and n.due_at]
    if _moves(run):
        instants += [due for key in run.ready if (due := run.nodes[key].due_at) and due > now]
    return min(instants, default=None)


def _moves(run: Course) -> bool:
    return run.status is RunStatus.RUNNING and not run.pause_reasons


def _is_due(node: Node, now: datetime) -> bool:
    return node.due_at is None or node.due_at <= now
