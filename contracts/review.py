"""What the executor offers to those who judge its nodes' results: the case, the books, another attempt, and comparison."""

from __future__ import annotations

from enum import StrEnum
from typing import Any
from uuid import UUID

from pydantic import AwareDatetime, Field

from contracts.executor import NodeStatus, RunNode, Usage
from contracts.message import Request
from contracts.page import Page, PageRequest
from contracts.plan import Gate, Name, Text
from contracts.refs import BlobRef, Value
from contracts.verdict import Verdict


class OverduePolicy(StrEnum):
    """What becomes of a node whose verdict does not come in time."""

    OPEN = "open"  # its result counts
    CLOSED = "closed"  # it is paused for a person; a verdict that comes later still counts


class ReviewCase(Value):
    """All that judging an attempt needs. `output` is inline up to 64 KiB, else its beginning, with all of it behind
    `output_ref`. `current` is false when the node has moved on to another attempt or its run was canceled."""

    run_id: UUID
    run_title: str
    project_id: str
    task_id: UUID | None
    node_id: UUID
    attempt: int
    current: bool
    status: NodeStatus
    gate: Gate
    spec: RunNode
    author: str | None  # provider/model
    output: str | None
    output_ref: BlobRef | None
    output_size: int | None
    checksum: str | None
    revisions: int = 0  # attempts, up to this one, that followed a review by themselves


class GetReviewCase(Request[ReviewCase], owner="executor", entity="node", verb="review_case"):
    """`attempt` None: the latest one. Refused with `not_found`, also when the node belongs to another run."""

    node_id: UUID
    run_id: UUID | None = None
    attempt: int | None = None


class ReviewBooked(Value):
    call: int  # the number of the sidecar within the attempt


class BookReview(Request[ReviewBooked], owner="executor", entity="review", verb="book"):
    """A review's call to a model: its sidecar is stored and its cost added to the node's and so to the run's."""

    command_id: UUID
    node_id: UUID
    attempt: int
    usage: Usage
    sidecar: dict[str, Any]


class NodeRerun(Value):
    """`attempt` is the number that the new attempt will have."""

    node_id: UUID
    run_id: UUID
    status_after: NodeStatus
    actual: NodeStatus
    attempt: int
    reopened: bool


class Critique(Value):
    """A person's word on an attempt, which the executor may not have heard of yet."""

    of_attempt: int
    text: Text


class RerunNode(Request[NodeRerun], owner="executor", entity="node", verb="rerun"):
    """A new attempt that is told the critique in force and `instructions`; `prompt` replaces what the node was told.
    `critique` is what a person has said of its latest attempt, and goes before what the executor knows.

    What depends on it runs again, unless `keep_descendants`. Reopens a run that has ended; refused with `run_active` while
    another run of the task is active, with `illegal_state` when the node has no result or failure yet.
    """

    command_id: UUID
    node_id: UUID
    prompt: Text | None = None
    instructions: Text | None = None
    llm_backend: Name | None = None
    llm_model: Name | None = None
    keep_descendants: bool = False
    critique: Critique | None = None
    by: Name | None = None


class Guidance(Value):
    """What an attempt was told beyond its node: the critique of the one before, and what a person asked for."""

    critique: str | None = None
    instructions: str | None = None
    of_attempt: int | None = None
    by: str | None = None


class Attempt(Value):
    """`output` is at most 64 KiB of it; `diff` compares it with the attempt before that had one, as a unified diff."""

    number: int
    status: str
    model: str | None
    requested: str | None
    usage: Usage
    duration_ms: int | None
    error: str | None
    guidance: Guidance | None
    output: str | None
    output_size: int | None
    checksum: str | None
    diff: str | None
    started_at: AwareDatetime
    ended_at: AwareDatetime | None


class Attempts(Value):
    node_id: UUID
    run_id: UUID
    key: str
    current: int
    items: list[Attempt]


class ListAttempts(Request[Attempts], owner="executor", entity="node", verb="attempts"):
    node_id: UUID


class HeldNode(Value):
    """A node that waits for a person's verdict, or whose result a person found wanting after its run had ended."""

    run_id: UUID
    run_title: str
    task_id: UUID | None
    project_id: str
    node_id: UUID
    key: str
    title: str
    status: NodeStatus
    attempt: int
    role: str | None
    agent_id: str | None
    output_preview: str | None
    verdict: Verdict | None  # None: no review came in time
    since: AwareDatetime
    descendants: list[str] = Field(default_factory=list)  # keys of what waits for it


class ListHeld(PageRequest[Page[HeldNode]], owner="executor", entity="node", verb="held"):
    """The oldest first."""

    run_id: UUID | None = None
