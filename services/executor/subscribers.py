"""What the executor answers and listens to: one line each."""

from __future__ import annotations

from chassis.bus import Bus
from contracts.executor import ControlRun, DescribeLlm, GetNode, GetRun, ListNodes, ListRuns, StartRun
from contracts.run_control import ControlNode, ExplainWaiting, GetRuntime
from contracts.weather import ListProviders
from services.executor.engine.engine import Engine
from services.executor.engine.weather.station import Station
from services.executor.handlers import Executor
from services.executor.providers import Providers
from services.executor.steering.handlers import Steering


def subscribe(
    bus: Bus, executor: Executor, steering: Steering, providers: Providers, engine: Engine, station: Station
) -> None:
    bus.serve(StartRun, executor.start_run)
    bus.serve(ControlRun, steering.control_run)
    bus.serve(ControlNode, steering.control_node)
    bus.serve(GetRun, executor.get_run)
    bus.serve(ListRuns, executor.list_runs)
    bus.serve(GetNode, executor.get_node)
    bus.serve(ListNodes, executor.list_nodes)
    bus.serve(ExplainWaiting, executor.explain_waiting)
    bus.serve(GetRuntime, executor.get_runtime)
    bus.serve(DescribeLlm, executor.describe_llm)
    bus.serve(ListProviders, providers.list_providers)
    bus.on_signal("executor", "run", engine.hear)
    bus.on_signal("executor", "queued", engine.hear_of_a_new_run)
    bus.on_signal("executor", "weather", station.hear)
