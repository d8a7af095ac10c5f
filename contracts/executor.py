"""What the executor answers: runs, nodes, attempts."""

from __future__ import annotations

from enum import StrEnum
from typing import Any
from uuid import UUID

from pydantic import AwareDatetime, Field

from contracts.message import Request
from contracts.page import Page, PageRequest
from contracts.plan import Deliverable, Gate, ModelRef, Name, NodeKey, NodeKind, Params, Strict, Text, Title
from contracts.refs import DEFAULT_PROJECT, BlobRef, Slug, Value
from contracts.verdict import Verdict


class RunStatus(StrEnum):
    QUEUED = "queued"  # accepted; no executor owns it yet
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"


class NodeStatus(StrEnum):
    QUEUED = "queued"  # waits for its dependencies, a slot or a retry
    RUNNING = "running"
    REVIEWING = "reviewing"  # its result waits for a verdict
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELED = "canceled"


class Wanted(StrEnum):
    """What people asked for, apart from what is."""

    RUN = "run"
    PAUSE = "pause"
    CANCEL = "cancel"


class RunAction(StrEnum):
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    SKIP_FAILED_AND_RESUME = "skip_failed_and_resume"


class ControlMode(StrEnum):
    """What a pause does to calls that are under way."""

    FINISH = "finish"  # they end as they would
    INTERRUPT = "interrupt"  # they are cut off, and their nodes start over later


class RunNode(Strict):
    """A plan's node with its assignment folded in: all that executing it needs."""

    key: NodeKey
    title: Title
    deps: list[NodeKey] = Field(default_factory=list)
    kind: NodeKind = NodeKind.AGENT
    instructions: Text | None = None
    notes: Text | None = None
    acceptance: list[Text] = Field(default_factory=list)
    deliverables: list[Deliverable] = Field(default_factory=list)
    risks: list[Text] = Field(default_factory=list)
    assumptions: list[Text] = Field(default_factory=list)
    role: Name | None = None
    agent_id: Name | None = None
    llm_backend: Name | None = None
    llm_model: Name | None = None
    fallbacks: list[ModelRef] | None = None  # None: the server's own
    params: Params = Field(default_factory=dict)
    timeout_s: float | None = Field(default=None, gt=0, le=86_400)
    max_attempts: int | None = Field(default=None, ge=1, le=20)


class RunStartedAnswer(Value):
    """The answer to StartRun. `activation` as in its facts."""

    run_id: UUID
    activation: int = 0


class Usage(Value):
    """Tokens and money. `cost_usd` is a decimal as text; None when nothing of it is known, which is not 0.

    Of `estimated_calls` nobody knows what they came to (they were cut off): `cost_usd` has the most that it can have been.
    `unpriced_calls` are not in it, because no price is known.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    requests: int = 0
    cost_usd: str | None = "0"
    estimated_calls: int = 0
    unpriced_calls: int = 0


class Node(Value):
    """Times in UTC, `duration_ms` of the latest attempt. `output_preview` is at most 2,000 characters."""

    id: UUID
    run_id: UUID
    key: str
    title: str
    status: NodeStatus
    role: str | None
    agent_id: str | None
    checksum: str | None  # sha256 of the output
    deps: list[str]
    attempt: int
    error: str | None
    model: str | None
    usage: Usage
    output_preview: str | None
    output_size: int | None  # bytes
    due_at: AwareDatetime | None  # when a failed attempt is repeated
    started_at: AwareDatetime | None
    ended_at: AwareDatetime | None
    duration_ms: int | None
    created_at: AwareDatetime
    updated_at: AwareDatetime
    pause_reasons: list[str] = Field(default_factory=list)
    reused_from: UUID | None = None  # the node of an earlier run whose result this is
    verdict: Verdict | None = None  # on its latest attempt


class NodeDetail(Node):
    output: str | None  # inline up to 64 KiB, else `output_ref`
    output_ref: BlobRef | None


class Control(Value):
    """What was last asked of a run, and when it took effect: null while it has not. `finishing` counts the nodes that
    a pause or cancel still waits for."""

    wanted: Wanted
    asked_at: AwareDatetime
    asked_by: str | None
    mode: ControlMode
    effective_at: AwareDatetime | None
    finishing: int


class Run(Value):
    id: UUID
    company_id: str
    project_id: str
    task_id: UUID | None
    plan_id: UUID | None
    title: str
    status: RunStatus
    wanted: Wanted
    pause_reasons: list[str]
    gate: Gate
    dry_run: bool
    error: str | None
    request_id: str
    meta: dict[str, Any]
    created_at: AwareDatetime
    started_at: AwareDatetime | None
    ended_at: AwareDatetime | None
    control: Control | None = None  # null when nobody has asked for anything yet
    reuses_run_id: UUID | None = None  # the earlier run whose results it took over
    needs_attention: bool = False  # a critical verdict on one of its results waits for a person
    activation: int = 0  # as in its facts


class RunSummary(Value):
    nodes_total: int
    nodes_completed: int
    nodes_failed: int
    duration_ms: int | None
    llm_prompt_tokens: int
    llm_completion_tokens: int
    llm_total_tokens: int
    llm_request_count: int
    llm_avg_latency_ms: float | None
    llm_p95_latency_ms: float | None
    cost_usd: str | None  # as in Usage
    estimated_calls: int = 0
    unpriced_calls: int = 0


class RunDetail(Value):
    run: Run
    summary: RunSummary
    nodes: list[Node] | None


class RunControlled(Value):
    status: RunStatus  # what was asked for
    actual: RunStatus
    wanted: Wanted
    skipped_nodes: list[str] = Field(default_factory=list)
    control: Control | None = None


class StartRun(Request[RunStartedAnswer], owner="executor", entity="run", verb="start", patience=8.0):
    command_id: UUID
    run_id: UUID
    project: Slug = DEFAULT_PROJECT
    task_id: UUID | None = None
    plan_id: UUID | None = None
    plan_version: int | None = None
    title: Title
    nodes: list[RunNode] = Field(min_length=1, max_length=200)
    gate: Gate | None = None
    dry_run: bool = False
    timeout_s: float | None = Field(default=None, gt=0, le=2_592_000)
    node_timeout_s: float | None = Field(default=None, gt=0, le=86_400)
    max_attempts: int | None = Field(default=None, ge=1, le=20)
    meta: dict[str, Any] = Field(default_factory=dict)
    reuse_run_id: UUID | None = None  # take over what that run of the task has finished, where the inputs are the same


class GetRun(Request[RunDetail], owner="executor", entity="run", verb="get"):
    run_id: UUID
    include_nodes: bool = True


class ListRuns(PageRequest[Page[Run]], owner="executor", entity="run", verb="list"):
    status: RunStatus | None = None
    title_contains: str | None = None
    started_from: AwareDatetime | None = None
    started_to: AwareDatetime | None = None
    task_id: UUID | None = None


class ControlRun(Request[RunControlled], owner="executor", entity="run", verb="control"):
    command_id: UUID
    run_id: UUID
    action: RunAction
    mode: ControlMode = ControlMode.FINISH
    by: Name | None = None  # who asks, for people to read


class GetNode(Request[NodeDetail], owner="executor", entity="node", verb="get"):
    node_id: UUID


class ListNodes(PageRequest[Page[Node]], owner="executor", entity="node", verb="list"):
    run_id: UUID
    status: NodeStatus | None = None
    key: str | None = None
    title_contains: str | None = None
    role: str | None = None
    checksum: str | None = None


class ProviderInfo(Value):
    name: str
    configured: bool
    default: bool
    base_url: str | None
    models: list[str]
    note: str | None = None


class LlmConfig(Value):
    default_provider: str
    default_model: str
    providers: list[ProviderInfo]


class DescribeLlm(Request[LlmConfig], owner="executor", entity="llm", verb="describe"): ...
