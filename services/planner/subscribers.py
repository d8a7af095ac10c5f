"""What the planner answers and listens to: one line each."""

from __future__ import annotations

from chassis.bus import Bus
from contracts import executor, planner
from contracts.streams import PLANNER_RUNS
from services.planner.handlers.drafting import Drafting
from services.planner.handlers.launching import Launching
from services.planner.handlers.plans import Plans
from services.planner.handlers.runs import Runs
from services.planner.handlers.tasks import Tasks


def subscribe(bus: Bus, tasks: Tasks, plans: Plans, drafting: Drafting, launching: Launching, runs: Runs) -> None:
    bus.serve(planner.CreateTask, tasks.create)
    bus.serve(planner.GetTask, tasks.get)
    bus.serve(planner.ListTasks, tasks.page)
    bus.serve(planner.UpdateTask, tasks.update)
    bus.serve(planner.DeleteTask, tasks.delete)
    bus.serve(planner.StartTask, launching.start)
    bus.serve(planner.LaunchTask, launching.launch)
    bus.serve(planner.DraftPlan, drafting.draft)
    bus.serve(planner.CreatePlan, plans.create)
    bus.serve(planner.GetPlan, plans.get)
    bus.serve(planner.ListPlanVersions, plans.versions)
    bus.serve(planner.GetPlanVersion, plans.version)
    bus.serve(planner.DiffPlan, plans.diff)
    bus.serve(planner.AssignNodes, plans.assign)
    bus.serve(planner.AutoAssign, plans.auto_assign)
    bus.serve(planner.SubmitForValidation, plans.submit_for_validation)
    bus.on(
        PLANNER_RUNS,
        {
            executor.RunStarted: runs.on_fact,
            executor.RunPaused: runs.on_fact,
            executor.RunResumed: runs.on_fact,
            executor.RunCompleted: runs.on_fact,
            executor.RunFailed: runs.on_fact,
            executor.RunCanceled: runs.on_fact,
        },
    )
