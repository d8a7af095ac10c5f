"""Feedback: what reviews and people say of a node's result, the verdict that follows from it, and quality over time."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field

from contracts.executor import Usage
from contracts.message import Event, Request
from contracts.page import Page, PageRequest
from contracts.plan import Name, Params, Text
from contracts.refs import Slug, Value
from contracts.scope import Scope, ScopeId
from contracts.verdict import Decision, Effect, Score, Source


class Criterion(Value):
    """One thing that was judged. `by` is `check` for code, else the reviewing model."""

    name: str
    score: Score
    passed: bool
    reason: str
    by: str


class Evaluation(Value):
    """What an automatic review found. `review_unavailable` says why no model had a say: then code alone decided.
    `not_checked` names what the node declares and code could not look at. `reviewer_decision` is what the model would do,
    which the threshold and the checks of code may overrule; the feedback's own `decision` is what counts."""

    criteria: list[Criterion] = Field(default_factory=list)
    failed_criteria: list[str] = Field(default_factory=list)
    reviewer_model: str | None = None
    reviewer_decision: Decision | None = None
    author_model: str | None = None
    review_unavailable: str | None = None
    not_checked: list[str] = Field(default_factory=list)
    simulated: bool = False
    usage: Usage | None = None
    duration_ms: int | None = None


class Feedback(Value):
    """What was said of one attempt. `decision` is None for a comment without a score; `in_force` marks the verdict that
    counts for the attempt; `evaluation` is an Evaluation for automatic ones, and whatever people sent for theirs."""

    id: UUID
    company_id: str
    project_id: str
    task_id: UUID | None
    run_id: UUID
    node_id: UUID
    node_key: str
    attempt: int
    source: Source
    reviewer: str | None
    score: int | None
    threshold: int | None
    decision: Decision | None
    critical: bool
    in_force: bool
    comment: str | None
    metadata: dict[str, Any]
    evaluation: dict[str, Any]
    request_id: str
    created_at: AwareDatetime


class GiveFeedback(Request[Feedback], owner="feedback", entity="feedback", verb="give", patience=8.0):
    """A score makes it a verdict, which outranks the automatic one in both directions.

    `seen` is the feedback that was in force when the person decided; refused with `verdict_taken` when another is by now.
    Without it, refused when another person's verdict came in after `asked_at`: nobody can have seen it.
    """

    command_id: UUID
    run_id: UUID
    node_id: UUID
    attempt: int | None = None  # None: the latest
    source: Source = Source.HUMAN
    reviewer: Name | None = None
    score: Score | None = None
    comment: Text | None = None
    metadata: Params = Field(default_factory=dict)
    evaluation: Params = Field(default_factory=dict)
    seen: UUID | None = None
    asked_at: AwareDatetime


class ListFeedbacks(PageRequest[Page[Feedback]], owner="feedback", entity="feedback", verb="list"):
    """`per_node` leaves of each node its newest ones, so many."""

    run_id: UUID | None = None
    node_id: UUID | None = None
    node_ids: list[UUID] | None = Field(default=None, max_length=200)
    source: Source | None = None
    critical: bool | None = None
    in_force: bool | None = None
    per_node: int | None = Field(default=None, ge=1, le=200)


class GetFeedback(Request[Feedback], owner="feedback", entity="feedback", verb="get"):
    feedback_id: UUID


class Policy(Value):
    """The narrowest one that says something counts: agent, task, project, company, server. None is left to the next wider
    one. `auto_revise` is how many attempts may follow by themselves before a person is asked."""

    scope: Scope
    scope_id: str
    critical_threshold: int | None
    auto_revise: int | None
    set_by: str | None
    updated_at: AwareDatetime


class ListPolicies(PageRequest[Page[Policy]], owner="feedback", entity="policy", verb="list"):
    scope: Scope | None = None
    scope_id: Name | None = None


class GetPolicy(Request[Policy], owner="feedback", entity="policy", verb="get"):
    scope: Scope
    scope_id: ScopeId


class SetPolicy(Request[Policy], owner="feedback", entity="policy", verb="set"):
    command_id: UUID
    scope: Scope
    scope_id: ScopeId
    critical_threshold: Score | None = None
    auto_revise: Annotated[int, Field(ge=0, le=10)] | None = None
    by: Name | None = None


class PolicyGone(Value):
    removed: Policy


class RemovePolicy(Request[PolicyGone], owner="feedback", entity="policy", verb="remove"):
    command_id: UUID
    scope: Scope
    scope_id: ScopeId
    by: Name | None = None


class NodeQuality(Value):
    """A node in a report: its verdict in force, and how many attempts and reviews it took. `reviewer_decision` is what a
    reviewing model would have decided."""

    node_id: UUID
    key: str
    attempt: int
    score: int | None
    decision: Decision | None
    reviewer_decision: Decision | None = None
    source: Source | None
    reviewer: str | None
    critical: bool
    failed_criteria: list[str]
    comment: str | None
    reviews: int


class QaReport(Value):
    """Computed from a run's feedbacks. `average_score` and the counts are over the verdicts in force."""

    run_id: UUID
    nodes: list[NodeQuality]
    average_score: float | None
    accepted: int
    revised: int
    rejected: int
    critical: int
    reviews: int
    human_reviews: int
    failed_criteria: dict[str, int]


class GetQaReport(Request[QaReport], owner="feedback", entity="report", verb="qa"):
    run_id: UUID


class QualityRow(Value):
    """`name` is the agent's id, the role or the model; null for nodes that had none."""

    name: str | None
    bucket: AwareDatetime | None  # the start of the day or week; null for the whole time asked for
    reviews: int
    average_score: float
    accepted_first_time: float | None  # share, 0 to 1, of attempts numbered 1; null when there were none
    critical: int
    human_reviews: int


class Quality(Value):
    by: Literal["agent", "role", "model"]
    items: list[QualityRow]


class GetQuality(Request[Quality], owner="feedback", entity="report", verb="quality"):
    by: Literal["agent", "role", "model"]
    bucket: Literal["day", "week"] | None = None
    project: Slug | None = None
    ts_from: AwareDatetime | None = None
    ts_to: AwareDatetime | None = None


class FeedbackFact(Event):
    feedback_id: UUID
    run_id: UUID
    node_id: UUID
    key: str
    attempt: int
    source: Source
    score: int | None
    reviewer: str | None = None


class FeedbackGiven(FeedbackFact, owner="feedback", entity="feedback", verb="given", story="run_id"):
    decision: Decision | None
    comment: str | None = None  # its beginning
    review_unavailable: str | None = None


class FeedbackCritical(FeedbackFact, owner="feedback", entity="feedback", verb="critical", story="run_id"):
    """The score is below the threshold."""

    threshold: int
    failed_criteria: list[str] = Field(default_factory=list)
    comment: str | None = None


class VerdictGiven(FeedbackFact, owner="feedback", entity="verdict", verb="given", story="run_id"):
    """What the executor obeys. `version` counts the verdicts on the attempt: an older one that comes later changes nothing.

    `critique` is what the author of another attempt is told; `usage` what the review took, booked already.
    """

    version: int
    effect: Effect
    decision: Decision
    critical: bool
    threshold: int | None = None
    critique: str | None = None
    usage: Usage | None = None


class PolicyChanged(Event, owner="feedback", entity="policy", verb="changed", story="policy_id"):
    """What counts there from now on; two nulls when it was removed. `policy_id` stays the same for the same scope."""

    policy_id: UUID
    scope: Scope
    scope_id: str
    critical_threshold: int | None
    auto_revise: int | None
    removed: bool = False
    by: str | None = None
