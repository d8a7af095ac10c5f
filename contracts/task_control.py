"""How people steer tasks: their wishes, dependencies between tasks, and the companies and projects tasks live in."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal
from uuid import UUID

from pydantic import AwareDatetime, Field

from contracts.executor import ControlMode
from contracts.message import Event, Request
from contracts.page import Page, PageRequest
from contracts.plan import Name, Title
from contracts.planner import RunAccepted, Task, TaskControl, TaskFact, TaskStatus
from contracts.refs import Slug, Value


class TaskAction(StrEnum):
    PAUSE = "pause"  # sets the pause flag, and pauses the active run
    RESUME = "resume"  # clears both flags, and resumes the active run
    CANCEL = "cancel"  # sets the cancel flag, clears pause, and cancels the active run
    RESET = "reset"  # clears both flags, and touches no run


class TaskControlled(Value):
    """`status` is what was asked for, `actual` the task's own, which follows its run's facts."""

    task_id: UUID
    run_id: UUID | None
    status: TaskStatus
    actual: TaskStatus
    control: TaskControl


class ControlTask(Request[TaskControlled], owner="planner", entity="task", verb="control", patience=10.0):
    command_id: UUID
    task_id: UUID
    action: TaskAction
    mode: ControlMode = ControlMode.FINISH
    by: Name | None = None


class RetryTask(Request[RunAccepted], owner="planner", entity="task", verb="retry", patience=10.0):
    """A new run of a task whose latest run has ended. Every finished node whose inputs did not change keeps its result,
    unless `fresh`."""

    command_id: UUID
    task_id: UUID
    fresh: bool = False


class TaskLinks(Value):
    """`waiting` when any of the tasks it depends on is not completed."""

    task_id: UUID
    items: list[Task]
    waiting: bool


class AddDependencies(Request[TaskLinks], owner="planner", entity="task", verb="depend"):
    """Raises Rejection(cycle) with `details.cycle`, the ids of tasks that would wait for each other."""

    command_id: UUID
    task_id: UUID
    depends_on: list[UUID] = Field(min_length=1, max_length=100)


class RemoveDependency(Request[TaskLinks], owner="planner", entity="task", verb="undepend"):
    command_id: UUID
    task_id: UUID
    depends_on: UUID


class ListDependencies(Request[TaskLinks], owner="planner", entity="task", verb="dependencies"):
    task_id: UUID


class ListDependents(Request[TaskLinks], owner="planner", entity="task", verb="dependents"):
    task_id: UUID


class Company(Value):
    id: Slug
    name: str
    created_at: AwareDatetime


class Project(Value):
    company_id: Slug
    id: Slug
    name: str
    created_at: AwareDatetime


class ListCompanies(PageRequest[Page[Company]], owner="planner", entity="company", verb="list"): ...


class CreateCompany(Request[Company], owner="planner", entity="company", verb="create"):
    """With a project `default`."""

    command_id: UUID
    id: Slug
    name: Title


class ListProjects(PageRequest[Page[Project]], owner="planner", entity="project", verb="list"): ...


class CreateProject(Request[Project], owner="planner", entity="project", verb="create"):
    command_id: UUID
    id: Slug
    name: Title


class TaskControlAsked(TaskFact, owner="planner", entity="task", verb="control_asked", story="task_id"):
    action: TaskAction
    mode: ControlMode
    by: str | None = None
    run_id: UUID | None = None


class TaskCanceled(TaskFact, owner="planner", entity="task", verb="canceled", story="task_id"):
    run_id: UUID


class TaskRetried(TaskFact, owner="planner", entity="task", verb="retried", story="task_id"):
    run_id: UUID
    earlier_run_id: UUID
    fresh: bool


class TaskDependenciesChanged(TaskFact, owner="planner", entity="task", verb="dependencies_changed", story="task_id"):
    change: Literal["added", "removed"]
    depends_on: list[UUID]


class TaskReleased(TaskFact, owner="planner", entity="task", verb="released", story="task_id"):
    """Everything it waited for is completed. `starting` when it had asked to be started then."""

    completed_task_id: UUID
    starting: bool


class TaskRepaired(TaskFact, owner="planner", entity="task", verb="repaired", story="task_id"):
    """The reconciler found what should not happen, and mended it. `run_id` when it was about a run."""

    repair: str
    detail: str
    run_id: UUID | None = None


class CompanyWasCreated(Event, owner="planner", entity="company", verb="created", story="company"):
    name: str


class ProjectWasCreated(Event, owner="planner", entity="project", verb="created", story="company"):
    project: Slug
    name: str
