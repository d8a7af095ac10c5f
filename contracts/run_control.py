"""How people steer nodes, and what the executor says about everything that does not move."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal
from uuid import UUID

from pydantic import AwareDatetime, Field

from contracts.executor import ControlMode, NodeStatus, RunStatus, Wanted
from contracts.message import Request
from contracts.plan import Name, Params, Text
from contracts.refs import Value


class NodeAction(StrEnum):
    PAUSE = "pause"
    RESUME = "resume"
    SKIP = "skip"
    OVERRIDE = "override"


class NodeControlled(Value):
    """`status_after` is what was asked for; `actual` follows as soon as the run's owner has seen it.

    `sidecar_updated` is true when prompt or parameters were replaced; `reopened` when the run had ended and goes on.
    """

    node_id: UUID
    run_id: UUID
    status_after: NodeStatus
    actual: NodeStatus
    sidecar_updated: bool = False
    reopened: bool = False


class ControlNode(Request[NodeControlled], owner="executor", entity="node", verb="control"):
    """`prompt` replaces the node's instructions, `params` are laid over its own; both only for override.

    Overriding a node that has ended opens a new attempt, and whatever depends on it runs again.
    """

    command_id: UUID
    node_id: UUID
    action: NodeAction
    mode: ControlMode = ControlMode.FINISH
    prompt: Text | None = None
    params: Params | None = None
    by: Name | None = None


class WaitReason(StrEnum):
    EXECUTOR = "executor"  # no executor has taken the run yet
    RUNNING = "running"  # a call is under way, under the lease of a worker
    SLOT = "slot"  # its owner runs as many nodes as it may
    RETRY = "retry"  # a failed attempt is repeated later
    PROVIDER = "provider"  # the provider's circuit is open
    PAUSED = "paused"  # somebody paused it
    VERDICT = "verdict"  # a review or a person decides
    BUDGET = "budget"  # what its call may cost does not fit into a budget
    DEPENDENCY = "dependency"  # other nodes come first
    FAILED_DEPENDENCY = "failed_dependency"  # a node it needs has failed: it never runs unless somebody acts
    ORDER = "order"  # an order has been given and not been carried out yet


class Waiting(Value):
    """One thing that does not move: why (`detail`), and what will release it (`release`), for people to read.

    `on` are the keys of nodes, or the name of the worker or provider; `until` is when it is looked at again at the latest.
    """

    what: Literal["run", "node"]
    node_id: UUID | None = None
    key: str | None = None
    status: str
    reason: WaitReason
    detail: str
    release: str
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    by: str | None = None
    on: list[str] = Field(default_factory=list)


class WaitingFor(Value):
    """Everything of a run that is not moving, the run itself first. A run that is over waits for nothing, but for people to
    decide on results that were found wanting."""

    run_id: UUID
    status: RunStatus
    wanted: Wanted
    items: list[Waiting]


class ExplainWaiting(Request[WaitingFor], owner="executor", entity="run", verb="waiting"):
    run_id: UUID


class Runtime(Value):
    """Who executes a run and how far it is. `attempts` counts all that were begun; costs are as in Usage."""

    run_id: UUID
    status: RunStatus
    nodes_by_status: dict[NodeStatus, int]
    attempts: int
    worker_id: UUID | None
    worker_host: str | None
    lease_until: AwareDatetime | None
    error: str | None
    cost_usd: str | None
    estimated_calls: int = 0
    unpriced_calls: int = 0
    started_at: AwareDatetime | None
    ended_at: AwareDatetime | None


class GetRuntime(Request[Runtime], owner="executor", entity="run", verb="runtime"):
    run_id: UUID
