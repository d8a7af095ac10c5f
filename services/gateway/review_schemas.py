"""HTTP bodies of feedback, attempts, policies and reports, where they differ from the contracts."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, Field

from contracts.executor import NodeDetail, Run, RunSummary
from contracts.feedback import Feedback, Policy
from contracts.plan import Name, Params, Strict, Text
from contracts.review import Attempt, HeldNode
from contracts.verdict import Decision, Source
from services.gateway.artifact_schemas import ArtifactOut
from services.gateway.domain.trouble import Signal
from services.gateway.paging import PageOf
from services.gateway.schemas import Event, NodeOut

ScoreIn = Annotated[int, Field(strict=True, ge=0, le=100)]


class FeedbackIn(Strict):
    """With a score it is a verdict, which outranks the automatic one in both directions; without, a comment."""

    run_id: UUID
    node_id: UUID
    source: Source = Source.HUMAN
    reviewer: Name | None = Field(default=None, examples=["ada"])
    score: ScoreIn | None = Field(default=None, description="a whole number from 0 to 100", examples=[35])
    comment: Text | None = Field(default=None, examples=["The JSON does not parse"])
    metadata: Params = Field(default_factory=dict)
    evaluation: Params = Field(default_factory=dict)
    attempt: Annotated[int, Field(strict=True, ge=0, le=2**31 - 1)] | None = Field(
        default=None, description="the latest, when it is left out"
    )
    seen: UUID | None = Field(
        default=None, description="the feedback that was in force when you decided; 409 when it is another by now"
    )


class RerunIn(Strict):
    """Another attempt, told what was wrong with the last one. Whatever is left out stays as it is."""

    prompt: Text | None = Field(default=None, description="replaces the node's instructions")
    instructions: Text | None = Field(default=None, description="told beside them, with the critique in force")
    llm_backend: Name | None = None
    llm_model: Name | None = None
    keep_descendants: bool = Field(
        default=False, strict=True, description="what depends on it keeps its results instead of running again"
    )


class PolicyIn(Strict):
    """What is null is left to the next wider scope."""

    critical_threshold: ScoreIn | None = Field(default=None, description="a score below it is critical")
    auto_revise: Annotated[int, Field(strict=True, ge=0, le=10)] | None = Field(
        default=None, description="attempts that may follow by themselves before a person is asked"
    )


class NodeDetailOut(NodeDetail):
    """`feedbacks` are its newest 200; null, and named in `degraded`, while they cannot be asked for."""

    feedbacks: list[Feedback] | None
    degraded: list[str]


class AttemptOut(Attempt):
    """With the verdict in force on it: nulls when there is none, or when it cannot be asked for."""

    feedback_id: UUID | None = None
    score: int | None = None
    decision: Decision | None = None
    source: Source | None = None
    reviewer: str | None = None
    comment: str | None = None


class AttemptsOut(BaseModel):
    node_id: UUID
    run_id: UUID
    key: str
    current: int
    items: list[AttemptOut]
    degraded: list[str]


class TroubledNode(NodeOut):
    """One that failed, or is held by a verdict."""

    events: list[Event] | None
    artifacts: list[ArtifactOut] | None


class Incident(BaseModel):
    """What went wrong in a run, for whoever has to mend it. A part that could not be had is null and in `degraded`."""

    run: Run
    summary: RunSummary
    failed_nodes: list[TroubledNode]
    recent_events: list[Event] | None
    signals: list[Signal]
    degraded: list[str]


class FeedbackPage(PageOf[Feedback]): ...


class PolicyPage(PageOf[Policy]): ...


class HeldPage(PageOf[HeldNode]): ...
