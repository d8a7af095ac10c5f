"""HTTP bodies where they differ from the contracts; everything else is answered as its owner wrote it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from contracts.executor import Node, Run, RunAction, RunSummary
from contracts.plan import Assignment, Gate, PlanGraph, Strict, Text, Title
from contracts.planner import PlanStatus, PlanVersion, RunOptions, Task, TaskSpec
from contracts.refs import DEFAULT_PROJECT, Slug
from contracts.story import DeadLetter
from services.gateway.paging import PageOf

# what clients send ----------------------------------------------------------------------------------------------------


class TaskIn(Strict):
    """A draft (`title` alone), a draft to be planned or started at once, or an ad-hoc run (exactly one source)."""

    title: Title = Field(examples=["Write a market study"])
    description: Text | None = None
    gate: Gate | None = Field(default=None, description="what a review may do; the server's default is `off`")
    project: Slug = DEFAULT_PROJECT
    auto_plan: bool = Field(default=False, description="draft: let the supervisor plan it now")
    auto_start: bool = Field(default=False, description="draft: plan it and start it now")
    task_spec: TaskSpec | None = Field(default=None, description="ad-hoc run: what to do; `type: demo` runs the demo")
    task: PlanGraph | None = Field(
        default=None, description="ad-hoc run: an explicit plan, as a graph or a list of nodes"
    )
    task_file: str | None = Field(
        default=None, min_length=1, max_length=500, description="ad-hoc run: a file of the server"
    )
    options: RunOptions | None = Field(default=None, description="ad-hoc run: how to execute it")
    request_id: str | None = Field(
        default=None, pattern=r"^[\x21-\x7e]{1,128}$", description="ad-hoc run: the same as the X-Request-ID header"
    )

    @property
    def ad_hoc(self) -> bool:
        return any(
            part is not None for part in (self.task_spec, self.task, self.task_file, self.options, self.request_id)
        )

    @property
    def sources(self) -> int:
        return sum(source is not None for source in (self.task_spec, self.task, self.task_file))


class TaskPatch(Strict):
    """What is left out stays as it is; `description: null` clears it."""

    title: Title | None = None
    description: Text | None = None
    archived: bool | None = None


class PlanIn(Strict):
    task_id: UUID
    graph: PlanGraph
    status: PlanStatus | None = None


class AssignmentsIn(Strict):
    items: list[Assignment] = Field(min_length=1, max_length=200)


class ValidationIn(Strict):
    validated: bool
    errors: list[Text] = Field(default_factory=list, max_length=200)


class RunPatch(Strict):
    """`action` is cancel, pause, resume or skip_failed_and_resume; anything else is answered 400."""

    action: str = Field(max_length=100, examples=["pause"], json_schema_extra={"enum": list(RunAction)})


# what they get --------------------------------------------------------------------------------------------------------


class Accepted(BaseModel):
    """A run that was accepted; `location` is where to look at it."""

    run_id: UUID
    status: Literal["accepted"] = "accepted"
    location: str


class Started(BaseModel):
    run_id: UUID
    dry_run: bool


class NodeOut(Node):
    feedbacks: list[dict[str, Any]] | None = Field(default_factory=list)


class Event(BaseModel):
    """A fact of the timeline. `level` is its type, `message` its body as a JSON string, `cursor` the id in streams."""

    id: UUID
    cursor: str
    run_id: UUID | None
    node_id: UUID | None
    task_id: UUID | None
    level: str = Field(examples=["RUN_STARTED"])
    message: str
    timestamp: datetime
    request_id: str


class Artifact(BaseModel):
    id: UUID
    node_id: UUID
    type: str
    path: str
    content: str | None
    summary: str | None
    created_at: datetime
    preview: str | None


class RunEdge(BaseModel):
    """From the node that must be done to the one that waits for it; both are ids of nodes."""

    source: UUID
    target: UUID


class Dag(BaseModel):
    nodes: list[NodeOut]
    edges: list[RunEdge]


class RunSummaryOut(RunSummary):
    artifacts_total: int | None = 0
    events_total: int | None


class RunOut(Run):
    """A part that could not be had right now is null and named in `degraded`."""

    summary: RunSummaryOut
    dag: Dag
    events: list[Event] | None
    artifacts: list[Artifact] | None
    degraded: list[str]


class HealthOut(BaseModel):
    status: Literal["ok", "starting", "degraded"]
    service: str
    version: str
    db_ok: bool
    uptime_s: float
    orchestrator: Literal["ok", "down"]
    owners: dict[str, bool]


class ConditionOut(BaseModel):
    """`failures` says what is not well."""

    status: Literal["ok", "failing"]
    failures: dict[str, str] = Field(default_factory=dict)


class TaskPage(PageOf[Task]): ...


class PlanVersionPage(PageOf[PlanVersion]): ...


class RunPage(PageOf[Run]): ...


class NodePage(PageOf[NodeOut]): ...


class ArtifactPage(PageOf[Artifact]): ...


class EventPage(PageOf[Event]): ...


class DeadLetterPage(PageOf[DeadLetter]): ...
