"""Puts the executor together: settings, model layer, engine, requests."""

from __future__ import annotations

from functools import partial

from chassis.llm.models import Models
from chassis.llm.settings import LlmSettings
from chassis.postgres import connect
from chassis.service import Chassis
from contracts.executor import ControlRun, DescribeLlm, GetNode, GetRun, ListNodes, ListRuns, StartRun
from services.executor.engine.engine import Engine, Limits
from services.executor.engine.runner import Runner
from services.executor.engine.store import COMMITTER_SETTINGS
from services.executor.handlers import Executor
from services.executor.settings import ExecutorSettings
from services.executor.store import RunStore


async def build(chassis: Chassis) -> None:
    settings: ExecutorSettings = chassis.settings
    models = Models(LlmSettings())
    runner = Runner(chassis.pool, models, chassis.blobs, chassis.bus, node_timeout=settings.node_timeout_s)
    committer_connection = partial(
        connect, settings.database_url.get_secret_value(), chassis.name, **COMMITTER_SETTINGS
    )
    engine = Engine(chassis.pool, committer_connection, chassis.relay, runner.perform, _limits(settings))
    executor = Executor(chassis.uow, RunStore(chassis.pool), chassis.bus, models)

    chassis.bus.serve(StartRun, executor.start_run)
    chassis.bus.serve(ControlRun, executor.control_run)
    chassis.bus.serve(GetRun, executor.get_run)
    chassis.bus.serve(ListRuns, executor.list_runs)
    chassis.bus.serve(GetNode, executor.get_node)
    chassis.bus.serve(ListNodes, executor.list_nodes)
    chassis.bus.serve(DescribeLlm, executor.describe_llm)
    chassis.bus.on_signal("executor", "run", engine.hear)
    chassis.background("engine", engine.run)
    chassis.health.add("lease", engine.check)
    chassis.on_drain(engine.drain)
    chassis.on_drain(runner.drain)
    chassis.on_drain(models.aclose)


def _limits(settings: ExecutorSettings) -> Limits:
    return Limits(
        concurrency=settings.concurrency,
        most_runs=settings.most_runs,
        lease=settings.lease_s,
        poll=settings.poll_s,
        quiet=settings.quiet_s,
        drain=settings.drain_s,
    )
