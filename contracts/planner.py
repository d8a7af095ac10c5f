"""What the planner answers and what it tells: tasks, plans, assignments."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field, model_validator

from contracts.message import Event, Request
from contracts.page import Page, PageRequest
from contracts.plan import Assignment, Gate, Lines, Name, Params, PlanGraph, PlanNode, Strict, Text, Title
from contracts.refs import DEFAULT_PROJECT, Slug, Value


class TaskStatus(StrEnum):
    DRAFT = "draft"
    READY = "ready"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"


class PlanStatus(StrEnum):
    DRAFT = "draft"
    READY = "ready"
    INVALID = "invalid"


class TaskControl(Value):
    """The flags people have set: neither lets a new run start. Who set them last, and when."""

    pause: bool = False
    cancel: bool = False
    asked_at: AwareDatetime | None = None
    asked_by: str | None = None


class Task(Value):
    id: UUID
    company_id: str
    project_id: str
    title: str
    description: str | None
    status: TaskStatus
    archived: bool
    ad_hoc: bool
    gate: Gate | None
    plan_id: UUID | None
    run_id: UUID | None  # the latest run
    created_at: AwareDatetime
    updated_at: AwareDatetime
    control: TaskControl = TaskControl()
    auto_start: bool = False  # start as soon as there is a plan and every dependency is completed
    waits_for: list[UUID] = Field(default_factory=list)  # tasks it depends on that are not completed
    job_type: str | None = None
    payload: dict[str, Any] = Field(default_factory=dict)
    assignee: str | None = None
    priority: int = 0


class Plan(Value):
    """`errors` are the reasons a plan is invalid or was rejected; `plan_id` repeats `id` for old scripts."""

    id: UUID
    plan_id: UUID
    task_id: UUID
    status: PlanStatus
    version: int
    graph: PlanGraph | None
    errors: list[str]
    assignments: list[Assignment]
    created_at: AwareDatetime
    updated_at: AwareDatetime


class PlanVersion(Value):
    plan_id: UUID
    version: int
    status: PlanStatus
    graph: PlanGraph | None
    errors: list[str]
    origin: str  # supervisor, explicit or repaired
    answer: str | None  # what the model said, when it could not be read as a plan
    created_at: AwareDatetime


class FieldChange(Value):
    previous: Any
    current: Any


class ChangedNode(Value):
    id: str
    changes: dict[str, FieldChange]


class PlanDiff(Value):
    plan_id: UUID
    current_version: int
    previous_version: int
    added_nodes: list[PlanNode]
    removed_nodes: list[PlanNode]
    changed_nodes: list[ChangedNode]
    added_edges: list[dict[str, str]]
    removed_edges: list[dict[str, str]]


class PlanDrafted(Value):
    """`pending` when the model needs longer than the caller may wait; the job goes on."""

    plan_id: UUID | None
    status: PlanStatus | None
    graph: PlanGraph | None = None
    version: int | None = None
    errors: list[str] = Field(default_factory=list)
    pending: bool = False
    job_id: UUID | None = None


class RunAccepted(Value):
    run_id: UUID
    task_id: UUID
    status: str = "accepted"
    dry_run: bool = False


class TaskCreated(Value):
    """A draft, or, when it was to start at once, the run that it became."""

    task: Task
    run_id: UUID | None = None


class AssignmentsSaved(Value):
    created: int
    updated: int
    items: list[Assignment]


class Validated(Value):
    plan_id: UUID
    validated: bool
    errors: list[str]


class Deleted(Value):
    existed: bool


class TaskSpec(Strict):
    """What an ad-hoc run shall do: an explicit `plan`, `type: demo`, or a text that the supervisor plans."""

    type: Name | None = None
    plan: PlanGraph | None = None
    description: Text | None = None
    gate: Gate | None = None
    params: Params = Field(default_factory=dict)
    acceptance: Lines = Field(default_factory=list)


class RunOptions(Strict):
    """How a run is to be executed. Times in seconds."""

    gate: Gate | None = None
    dry_run: bool = False
    use_supervisor: bool = False
    timeout_s: float | None = Field(default=None, gt=0, le=7 * 86_400)
    node_timeout_s: float | None = Field(default=None, gt=0, le=86_400)
    max_attempts: int | None = Field(default=None, ge=1, le=20)
    llm_backend: Name | None = None
    llm_model: Name | None = None


#: seconds an answer may take that a model may have to be asked for: 60 s are waited for the plan itself
DRAFTING = 70.0

# Orders carry a command id: the owner answers the same order twice with one effect.


class CreateTask(Request[TaskCreated], owner="planner", entity="task", verb="create", patience=10.0):
    command_id: UUID
    project: Slug = DEFAULT_PROJECT
    title: Title
    description: Text | None = None
    gate: Gate | None = None
    auto_plan: bool = False
    auto_start: bool = False
    dependencies: list[UUID] = Field(default_factory=list, max_length=100)
    job_type: Name | None = None
    payload: Params = Field(default_factory=dict)
    assignee: Name | None = None
    priority: int = Field(default=0, ge=-100, le=100)

    def waits(self) -> float:
        return DRAFTING if self.auto_plan or self.auto_start else self.patience


class LaunchTask(Request[RunAccepted], owner="planner", entity="task", verb="launch", patience=10.0):
    """An ad-hoc run: a task that is created, planned and started in one go. `dedupe_key` is the request id."""

    command_id: UUID
    project: Slug = DEFAULT_PROJECT
    title: Title
    description: Text | None = None
    task_spec: TaskSpec | None = None
    task: PlanGraph | None = None
    task_file: Name | None = None
    options: RunOptions = RunOptions()
    gate: Gate | None = None
    dedupe_key: Name | None = None

    @model_validator(mode="after")
    def _one_source(self) -> LaunchTask:
        if sum(source is not None for source in (self.task_spec, self.task, self.task_file)) != 1:
            raise ValueError("give exactly one of task_spec, task and task_file")
        return self

    def waits(self) -> float:
        """A plan that is given, and the demo's, need no model. What a file holds only its reader knows."""
        spec = self.task_spec
        given = self.task is not None or (spec is not None and (spec.plan is not None or spec.type == "demo"))
        return self.patience if given and not self.options.use_supervisor else DRAFTING


class GetTask(Request[Task], owner="planner", entity="task", verb="get"):
    task_id: UUID


class ListTasks(PageRequest[Page[Task]], owner="planner", entity="task", verb="list"):
    status: TaskStatus | None = None
    title_contains: Name | None = None
    include_archived: bool = False
    project: Slug | None = None


class UpdateTask(Request[Task], owner="planner", entity="task", verb="update"):
    command_id: UUID
    task_id: UUID
    title: Title | None = None
    description: Text | None = None
    archived: bool | None = None
    clear_description: bool = False
    job_type: Name | None = None
    payload: Params | None = None
    assignee: Name | None = None
    priority: int | None = Field(default=None, ge=-100, le=100)
    clears: list[Literal["description", "job_type", "assignee"]] = Field(default_factory=list)


class DeleteTask(Request[Deleted], owner="planner", entity="task", verb="delete"):
    command_id: UUID
    task_id: UUID


class StartTask(Request[RunAccepted], owner="planner", entity="task", verb="start", patience=10.0):
    command_id: UUID
    task_id: UUID
    dry_run: bool = False


class DraftPlan(Request[PlanDrafted], owner="planner", entity="plan", verb="draft", patience=DRAFTING):
    """Let the supervisor plan the task. Joins a draft that is under way; waits up to 60 s for it."""

    command_id: UUID
    task_id: UUID


class CreatePlan(Request[Plan], owner="planner", entity="plan", verb="create"):
    command_id: UUID
    task_id: UUID
    graph: PlanGraph
    status: PlanStatus | None = None


class GetPlan(Request[Plan], owner="planner", entity="plan", verb="get"):
    plan_id: UUID


class ListPlanVersions(PageRequest[Page[PlanVersion]], owner="planner", entity="plan", verb="versions"):
    plan_id: UUID


class GetPlanVersion(Request[PlanVersion], owner="planner", entity="plan", verb="version"):
    plan_id: UUID
    version: int = Field(ge=1)


class DiffPlan(Request[PlanDiff], owner="planner", entity="plan", verb="diff"):
    plan_id: UUID
    version: int = Field(ge=1)
    previous: int | None = Field(default=None, ge=1)


class AssignNodes(Request[AssignmentsSaved], owner="planner", entity="plan", verb="assign"):
    command_id: UUID
    plan_id: UUID
    items: list[Assignment] = Field(min_length=1, max_length=200)


class AutoAssign(Request[AssignmentsSaved], owner="planner", entity="plan", verb="auto_assign"):
    command_id: UUID
    plan_id: UUID


class SubmitForValidation(Request[Validated], owner="planner", entity="plan", verb="validate"):
    command_id: UUID
    plan_id: UUID
    validated: bool
    errors: list[Text] = Field(default_factory=list, max_length=200)


class TaskFact(Event):
    task_id: UUID
    title: str


class TaskWasCreated(TaskFact, owner="planner", entity="task", verb="created", story="task_id"): ...


class TaskWasUpdated(TaskFact, owner="planner", entity="task", verb="updated", story="task_id"): ...


class TaskWasDeleted(TaskFact, owner="planner", entity="task", verb="deleted", story="task_id"): ...


class TaskReady(TaskFact, owner="planner", entity="task", verb="ready", story="task_id"): ...


class TaskStarted(TaskFact, owner="planner", entity="task", verb="started", story="task_id"):
    run_id: UUID


class TaskResumed(TaskFact, owner="planner", entity="task", verb="resumed", story="task_id"):
    run_id: UUID


class TaskPaused(TaskFact, owner="planner", entity="task", verb="paused", story="task_id"):
    run_id: UUID


class TaskCompleted(TaskFact, owner="planner", entity="task", verb="completed", story="task_id"):
    run_id: UUID


class TaskFailed(TaskFact, owner="planner", entity="task", verb="failed", story="task_id"):
    run_id: UUID | None = None
    reason: str


class PlanFact(Event):
    task_id: UUID
    plan_id: UUID
    version: int


class PlanWasDrafted(PlanFact, owner="planner", entity="plan", verb="drafted", story="task_id"):
    nodes: int
    origin: str
    cost_usd: str | None = None  # of the supervisor's calls; None when the price is unknown
    tokens: int = 0


class PlanRejected(PlanFact, owner="planner", entity="plan", verb="rejected", story="task_id"):
    """No usable plan came out, or a person refused it; `errors` says why."""

    errors: list[str]


class PlanRetried(Event, owner="planner", entity="plan", verb="retried", story="task_id"):
    """The supervisor's model gave no answer at this attempt; the next one is due at `due_at`."""

    task_id: UUID
    attempt: int
    error: str
    due_at: AwareDatetime


class PlanValidated(PlanFact, owner="planner", entity="plan", verb="validated", story="task_id"): ...


class PlanAssigned(PlanFact, owner="planner", entity="plan", verb="assigned", story="task_id"):
    """Without the assignments' `params`, which may be large; many assignments are told in several facts."""

    items: list[Assignment]
