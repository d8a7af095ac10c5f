"""HTTP bodies where they differ from the contracts; everything else is answered as its owner wrote it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from contracts.budgets import Budget, Limit
from contracts.executor import ControlMode, Node, NodeStatus, Run, RunAction, RunSummary
from contracts.feedback import Feedback
from contracts.plan import Assignment, Gate, Name, Params, PlanGraph, Strict, Text, Title
from contracts.planner import PlanStatus, PlanVersion, RunOptions, Task, TaskSpec
from contracts.refs import Slug
from contracts.run_control import NodeAction
from contracts.sidecar import Sidecar
from contracts.story import DeadLetter
from contracts.task_control import Company, Project
from services.gateway.artifact_schemas import ArtifactOut
from services.gateway.paging import PageOf

# what clients send ----------------------------------------------------------------------------------------------------


class TaskIn(Strict):
    """A draft (`title` alone), a draft to be planned or started at once, or an ad-hoc run (exactly one source)."""

    title: Title = Field(examples=["Write a market study"])
    description: Text | None = None
    gate: Gate | None = Field(default=None, description="what a review may do; the server's default is `gate`")
    project: Slug | None = Field(default=None, description="the path's, or `default`")
    dependencies: list[UUID] = Field(
        default_factory=list, max_length=100, description="draft: tasks that must be completed before it may start"
    )
    job_type: Name | None = Field(default=None, description="draft: what kind of work it is, for those who list it")
    payload: Params = Field(default_factory=dict, description="draft: whatever belongs to the work")
    assignee: Name | None = None
    priority: int = Field(default=0, ge=-100, le=100)
    auto_plan: bool = Field(default=False, description="draft: let the supervisor plan it now")
    auto_start: bool = Field(default=False, description="draft: plan it and start it now")
    task_spec: TaskSpec | None = Field(default=None, description="ad-hoc run: what to do; `type: demo` runs the demo")
    task: PlanGraph | None = Field(
        default=None, description="ad-hoc run: an explicit plan, as a graph or a list of nodes"
    )
    task_file: Annotated[Name, Field(min_length=1)] | None = Field(
        default=None, description="ad-hoc run: a file of the server"
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
    def of_drafts(self) -> list[str]:
        """Fields that are given and mean nothing to an ad-hoc run."""
        names = ("dependencies", "job_type", "payload", "assignee", "priority")
        return [name for name in names if name in self.model_fields_set]

    @property
    def sources(self) -> int:
        return sum(source is not None for source in (self.task_spec, self.task, self.task_file))


class TaskPatch(Strict):
    """What is left out stays as it is; null clears `description`, `job_type` and `assignee`. `payload` is replaced whole."""

    title: Title | None = None
    description: Text | None = None
    archived: bool | None = None
    job_type: Name | None = None
    payload: Params | None = None
    assignee: Name | None = None
    priority: int | None = Field(default=None, ge=-100, le=100)

    @property
    def clears(self) -> list[str]:
        nullable = ("description", "job_type", "assignee")
        return [name for name in nullable if name in self.model_fields_set and getattr(self, name) is None]


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
    mode: ControlMode | None = Field(default=None, description="as the query parameter; this one wins")


class NodePatch(Strict):
    """`action` is pause, resume, skip or override; anything else is answered 400."""

    action: str = Field(max_length=100, examples=["override"], json_schema_extra={"enum": list(NodeAction)})
    mode: ControlMode | None = Field(default=None, description="as the query parameter; this one wins")
    prompt: Text | None = Field(default=None, description="override: replaces the node's instructions")
    params: Params | None = Field(default=None, description="override: laid over the node's own")


class DependenciesIn(Strict):
    depends_on: list[UUID] = Field(min_length=1, max_length=100, description="tasks that must be completed first")


class CompanyIn(Strict):
    id: Slug = Field(examples=["acme"])
    name: Title = Field(examples=["Acme Ltd"])


class ProjectIn(Strict):
    id: Slug = Field(examples=["website"])
    name: Title = Field(examples=["The new website"])


class BudgetIn(Strict):
    limit_usd: Limit = Field(examples=["25"], description="US dollars, as a number or as text, which is exact")


# what they get --------------------------------------------------------------------------------------------------------


class Accepted(BaseModel):
    """A run that was accepted; `location` is where to look at it."""

    run_id: UUID
    task_id: UUID
    status: Literal["accepted"] = "accepted"
    location: str


class Started(BaseModel):
    run_id: UUID
    dry_run: bool


class RuntimeOut(BaseModel):
    """Who does a task, as fluidmanager has it. `job_id` is its latest run; nulls and 0 when it never ran."""

    job_id: UUID | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error: str | None = None
    attempts: int = 0
    worker_id: UUID | None = None


class TaskOut(Task):
    """`runtime` is null and named in `degraded` while the executor cannot be asked."""

    runtime: RuntimeOut | None
    degraded: list[str]


class WorkerOut(BaseModel):
    """The executor that holds a run, and until when it does without renewing that."""

    id: UUID
    host: str | None
    lease_until: datetime | None


class TaskStatusOut(BaseModel):
    """A task and what executes it. `run` is the active one; the rest is about the latest, whether it is over or not.

    What the executor would have to say is null and named in `degraded` while it cannot be asked.
    """

    task: Task
    run: Run | None
    nodes: dict[NodeStatus, int] | None
    attempts: int | None
    worker: WorkerOut | None
    error: str | None
    cost_usd: str | None = Field(description="null when nothing of it is known")
    estimated_calls: int | None = Field(
        default=None, description="calls of which cost_usd has the most that they can have cost: they were cut off"
    )
    unpriced_calls: int | None = Field(
        default=None, description="calls that are not in cost_usd, because no price is known"
    )
    runtime: RuntimeOut | None
    degraded: list[str]


class NodeOut(Node):
    """`feedbacks` are its newest ten; null while they cannot be asked for: `degraded` beside it says so."""

    feedbacks: list[Feedback] | None


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


class RunEdge(BaseModel):
    """From the node that must be done to the one that waits for it; both are ids of nodes."""

    source: UUID
    target: UUID


class Dag(BaseModel):
    nodes: list[NodeOut]
    edges: list[RunEdge]


class RunSummaryOut(RunSummary):
    """A count that could not be had right now is null and named in `degraded`."""

    artifacts_total: int | None
    events_total: int | None
    degraded: list[str]


class RunOut(Run):
    """A part that could not be had right now is null and named in `degraded`."""

    summary: RunSummaryOut
    dag: Dag
    events: list[Event] | None
    artifacts: list[ArtifactOut] | None
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


class BudgetPage(PageOf[Budget]): ...


class CompanyPage(PageOf[Company]): ...


class ProjectPage(PageOf[Project]): ...


class PlanVersionPage(PageOf[PlanVersion]): ...


class RunPage(PageOf[Run]): ...


class NodePage(PageOf[NodeOut]):
    degraded: list[str] = Field(default_factory=list)


class SidecarPage(PageOf[Sidecar]): ...


class EventPage(PageOf[Event]): ...


class DeadLetterPage(PageOf[DeadLetter]): ...
