"""What the executor tells: the facts of runs and their nodes, and tokens while they come."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from pydantic import AwareDatetime, Field

from contracts.executor import ControlMode, NodeStatus, RunAction, RunStatus, Usage
from contracts.message import Event, Live
from contracts.plan import Gate
from contracts.review import OverduePolicy
from contracts.run_control import NodeAction
from contracts.verdict import Effect


class RunFact(Event):
    """`activation` is the greater the later a run became active, started or reopened, among those of its task; 0 where it
    is not told."""

    run_id: UUID
    task_id: UUID | None = None
    title: str
    activation: int = 0


class RunQueued(RunFact, owner="executor", entity="run", verb="queued", story="run_id"):
    nodes: int


class RunStarted(RunFact, owner="executor", entity="run", verb="started", story="run_id"): ...


class RunPaused(RunFact, owner="executor", entity="run", verb="paused", story="run_id"):
    reasons: list[str]


class RunResumed(RunFact, owner="executor", entity="run", verb="resumed", story="run_id"): ...


class RunCompleted(RunFact, owner="executor", entity="run", verb="completed", story="run_id"):
    nodes_completed: int
    nodes_skipped: int
    cost_usd: str | None  # as in Usage
    tokens: int
    estimated_calls: int = 0
    unpriced_calls: int = 0


class RunFailed(RunFact, owner="executor", entity="run", verb="failed", story="run_id"):
    reason: str
    failed_nodes: list[str]


class RunCanceled(RunFact, owner="executor", entity="run", verb="canceled", story="run_id"): ...


class RunControlAsked(RunFact, owner="executor", entity="run", verb="control_asked", story="run_id"):
    """Somebody's order was accepted; what it makes of the run is told by facts of its own."""

    action: RunAction
    mode: ControlMode
    by: str | None = None


class RunControlLapsed(RunFact, owner="executor", entity="run", verb="control_lapsed", story="run_id"):
    """An order that was accepted came too late: the run had moved on, and nothing was changed."""

    action: RunAction
    status: RunStatus
    reason: str
    by: str | None = None


class RunOrderDropped(RunFact, owner="executor", entity="run", verb="order_dropped", story="run_id"):
    """An order or a verdict that was accepted could not be carried out, several times: it is a dead letter now, and the run
    goes on without it. `key` names the node that it was about, if it was about one."""

    order: str
    key: str | None = None
    reason: str
    by: str | None = None


class RunReopened(RunFact, owner="executor", entity="run", verb="reopened", story="run_id"):
    """It had ended, and goes on: nodes were skipped, or are to run again."""


class RunStalled(RunFact, owner="executor", entity="run", verb="stalled", story="run_id"):
    """Nothing has happened for longer than it should. `waiting` are the reasons, as GET /runs/{id}/waiting names them."""

    since: AwareDatetime
    waiting: list[str]


class RunRepaired(RunFact, owner="executor", entity="run", verb="repaired", story="run_id"):
    """The reconciler found what should not happen, and mended it."""

    repair: str
    detail: str


class NodeFact(Event):
    run_id: UUID
    node_id: UUID
    key: str
    attempt: int


class NodeStarted(NodeFact, owner="executor", entity="node", verb="started", story="run_id"):
    title: str
    role: str | None = None


class NodeCompleted(NodeFact, owner="executor", entity="node", verb="completed", story="run_id"):
    checksum: str | None
    output_preview: str | None
    model: str | None
    usage: Usage
    duration_ms: int | None
    requested: str | None = None  # provider/model that was asked for; a fallback may have stood in for it
    warnings: list[str] = Field(default_factory=list)  # such as a text that was cut off by the limit of tokens
    score: int | None = None  # of the verdict that released it
    released_by: str | None = None  # the person who did, if one did


class NodeReviewing(NodeFact, owner="executor", entity="node", verb="reviewing", story="run_id"):
    """An attempt's result is to be judged. With the gate on, the node waits for the verdict, until `deadline_at` at most;
    where the gate only observes, it is completed already."""

    gate: Gate
    title: str
    project: str
    task_id: UUID | None
    role: str | None
    agent_id: str | None
    checksum: str | None
    output_preview: str | None
    model: str | None
    usage: Usage
    duration_ms: int | None
    requested: str | None = None
    warnings: list[str] = Field(default_factory=list)
    deadline_at: AwareDatetime | None = None


class NodeReviewOverdue(NodeFact, owner="executor", entity="node", verb="review_overdue", story="run_id"):
    """No verdict came in time; `policy` says whether its result counts or it waits for a person."""

    policy: OverduePolicy


class NodeVerdictLapsed(NodeFact, owner="executor", entity="node", verb="verdict_lapsed", story="run_id"):
    """A verdict changed nothing: it was about an older attempt, an older version, or came too late."""

    feedback_id: UUID
    of_attempt: int
    effect: Effect
    reason: str


class NodeRerunAsked(NodeFact, owner="executor", entity="node", verb="rerun_asked", story="run_id"):
    """Somebody's order for another attempt was accepted; what it makes of the node is told by facts of its own."""

    fields: list[str]
    keep_descendants: bool
    by: str | None = None


class NodeRetried(NodeFact, owner="executor", entity="node", verb="retried", story="run_id"):
    """The attempt failed or was lost; the next one is due at `due_at`."""

    error: str
    due_at: AwareDatetime | None


class NodeFailed(NodeFact, owner="executor", entity="node", verb="failed", story="run_id"):
    error: str


class NodeControlAsked(NodeFact, owner="executor", entity="node", verb="control_asked", story="run_id"):
    """Somebody's order was accepted; what it makes of the node is told by facts of its own."""

    action: NodeAction
    mode: ControlMode
    by: str | None = None


class NodeControlLapsed(NodeFact, owner="executor", entity="node", verb="control_lapsed", story="run_id"):
    """An order that was accepted came too late: its node, or the run, had moved on, and nothing was changed."""

    action: NodeAction | Literal["rerun"]
    status: NodeStatus
    reason: str
    by: str | None = None


class NodeSkipped(NodeFact, owner="executor", entity="node", verb="skipped", story="run_id"):
    by: str | None = None


class NodeCanceled(NodeFact, owner="executor", entity="node", verb="canceled", story="run_id"): ...


class NodePaused(NodeFact, owner="executor", entity="node", verb="paused", story="run_id"):
    reasons: list[str]
    by: str | None = None  # who asked for it, unless it paused later than it was asked


class NodeResumed(NodeFact, owner="executor", entity="node", verb="resumed", story="run_id"):
    by: str | None = None


class NodeInterrupted(NodeFact, owner="executor", entity="node", verb="interrupted", story="run_id"):
    """Its attempt was cut off on somebody's order; another one follows when the node may run."""

    reason: str


class NodeOverridden(NodeFact, owner="executor", entity="node", verb="overridden", story="run_id"):
    """Its prompt or parameters were replaced by a person."""

    fields: list[str]
    by: str | None = None


class NodeRequeued(NodeFact, owner="executor", entity="node", verb="requeued", story="run_id"):
    """It had ended and runs again: overridden, or stale because something upstream runs again."""

    reason: str


class NodeParked(NodeFact, owner="executor", entity="node", verb="parked", story="run_id"):
    """Its provider is not to be had; no attempt is held against the node."""

    provider: str
    model: str
    until: AwareDatetime | None
    reason: str


class NodeReused(NodeFact, owner="executor", entity="node", verb="reused", story="run_id"):
    """Its result was taken over from an earlier run: nothing was called, nothing paid."""

    from_run_id: UUID
    from_node_id: UUID
    checksum: str | None


class NodeToken(Live, owner="executor", entity="node", verb="token", story="run_id"):
    """A piece of text as the model produced it. `index` counts from 0 within the attempt."""

    run_id: UUID
    node_id: UUID
    key: str
    attempt: int
    index: int
    text: str
