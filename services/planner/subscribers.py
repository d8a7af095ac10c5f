"""What the planner answers and listens to: one line each."""

from __future__ import annotations

from dataclasses import dataclass

from chassis.bus import Bus
from contracts import planner, run_facts, task_control
from contracts.streams import PLANNER_RUNS
from services.planner.handlers.companies import Companies
from services.planner.handlers.control import Control
from services.planner.handlers.dependencies import Dependencies
from services.planner.handlers.drafting import Drafting
from services.planner.handlers.launching import Launching
from services.planner.handlers.plans import Plans
from services.planner.handlers.retrying import Retrying
from services.planner.handlers.runs import Runs
from services.planner.handlers.tasks import Tasks


@dataclass(frozen=True, slots=True)
class Handlers:
    companies: Companies
    tasks: Tasks
    dependencies: Dependencies
    plans: Plans
    drafting: Drafting
    launching: Launching
    retrying: Retrying
    control: Control
    runs: Runs


def subscribe(bus: Bus, handlers: Handlers) -> None:
    _serve_companies(bus, handlers.companies)
    _serve_tasks(bus, handlers)
    _serve_plans(bus, handlers.plans, handlers.drafting)
    _follow_runs(bus, handlers.runs)


def _serve_companies(bus: Bus, companies: Companies) -> None:
    bus.serve(task_control.ListCompanies, companies.companies)
    bus.serve(task_control.CreateCompany, companies.create_company)
    bus.serve(task_control.ListProjects, companies.projects)
    bus.serve(task_control.CreateProject, companies.create_project)


def _serve_tasks(bus: Bus, handlers: Handlers) -> None:
    tasks, dependencies = handlers.tasks, handlers.dependencies
    bus.serve(planner.CreateTask, tasks.create)
    bus.serve(planner.GetTask, tasks.get)
    bus.serve(planner.ListTasks, tasks.page)
    bus.serve(planner.UpdateTask, tasks.update)
    bus.serve(planner.DeleteTask, tasks.delete)
    bus.serve(planner.StartTask, handlers.launching.start)
    bus.serve(planner.LaunchTask, handlers.launching.launch)
    bus.serve(task_control.RetryTask, handlers.retrying.retry)
    bus.serve(task_control.ControlTask, handlers.control.control)
    bus.serve(task_control.AddDependencies, dependencies.add)
    bus.serve(task_control.RemoveDependency, dependencies.remove)
    bus.serve(task_control.ListDependencies, dependencies.dependencies)
    bus.serve(task_control.ListDependents, dependencies.dependents)


def _serve_plans(bus: Bus, plans: Plans, drafting: Drafting) -> None:
    bus.serve(planner.DraftPlan, drafting.draft)
    bus.serve(planner.CreatePlan, plans.create)
    bus.serve(planner.GetPlan, plans.get)
    bus.serve(planner.ListPlanVersions, plans.versions)
    bus.serve(planner.GetPlanVersion, plans.version)
    bus.serve(planner.DiffPlan, plans.diff)
    bus.serve(planner.AssignNodes, plans.assign)
    bus.serve(planner.AutoAssign, plans.auto_assign)
    bus.serve(planner.SubmitForValidation, plans.submit_for_validation)


def _follow_runs(bus: Bus, runs: Runs) -> None:
    bus.on(
        PLANNER_RUNS,
        {
            run_facts.RunStarted: runs.on_fact,
            run_facts.RunPaused: runs.on_fact,
            run_facts.RunResumed: runs.on_fact,
            run_facts.RunCompleted: runs.on_fact,
            run_facts.RunFailed: runs.on_fact,
            run_facts.RunCanceled: runs.on_fact,
        },
    )
