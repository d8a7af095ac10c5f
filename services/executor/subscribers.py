"""What the executor answers and listens to: one line each."""

from __future__ import annotations

from chassis.bus import Bus
from contracts.budgets import ListBudgets, RemoveBudget, ReserveSpend, SetBudget, SettleSpend
from contracts.executor import ControlRun, DescribeLlm, GetNode, GetRun, ListNodes, ListRuns, StartRun
from contracts.feedback import VerdictGiven
from contracts.review import BookReview, GetReviewCase, ListAttempts, ListHeld, RerunNode
from contracts.run_control import ControlNode, ExplainWaiting, GetRuntime
from contracts.sidecar_requests import GetSidecar, ListSidecars
from contracts.streams import EXECUTOR_VERDICTS
from contracts.weather import ListProviders
from services.executor.engine.engine import Engine
from services.executor.engine.weather.station import Station
from services.executor.handlers import Executor
from services.executor.providers import Providers
from services.executor.reviewing.handlers import Reviewing
from services.executor.spending.budgets import Budgets
from services.executor.steering.handlers import Steering


def subscribe(
    bus: Bus,
    executor: Executor,
    steering: Steering,
    reviewing: Reviewing,
    providers: Providers,
    budgets: Budgets,
    engine: Engine,
    station: Station,
) -> None:
    bus.serve(StartRun, executor.start_run)
    bus.serve(ControlRun, steering.control_run)
    bus.serve(ControlNode, steering.control_node)
    bus.serve(RerunNode, steering.rerun_node)
    bus.serve(GetReviewCase, reviewing.review_case)
    bus.serve(BookReview, reviewing.book)
    bus.serve(ListAttempts, reviewing.attempts)
    bus.serve(ListHeld, reviewing.held)
    bus.on(EXECUTOR_VERDICTS, {VerdictGiven: reviewing.on_verdict})
    bus.serve(GetRun, executor.get_run)
    bus.serve(ListRuns, executor.list_runs)
    bus.serve(GetNode, executor.get_node)
    bus.serve(ListNodes, executor.list_nodes)
    bus.serve(ListSidecars, executor.list_sidecars)
    bus.serve(GetSidecar, executor.get_sidecar)
    bus.serve(ExplainWaiting, executor.explain_waiting)
    bus.serve(GetRuntime, executor.get_runtime)
    bus.serve(DescribeLlm, executor.describe_llm)
    bus.serve(ListProviders, providers.list_providers)
    bus.serve(ListBudgets, budgets.list_budgets)
    bus.serve(SetBudget, budgets.set_budget)
    bus.serve(RemoveBudget, budgets.remove_budget)
    bus.serve(ReserveSpend, budgets.reserve)
    bus.serve(SettleSpend, budgets.settle)
    bus.on_signal("executor", "run", engine.hear)
    bus.on_signal("executor", "queued", engine.hear_of_a_new_run)
    bus.on_signal("executor", "weather", station.hear)
