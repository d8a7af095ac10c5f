"""Puts the executor together: settings, model layer, engine, requests."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import partial

from chassis.llm.models import Models
from chassis.llm.settings import LlmSettings
from chassis.llm.warming import warm_up
from chassis.postgres import connect
from chassis.service import Chassis
from chassis.settings import BadSettings
from contracts.catalog import TOOLS
from contracts.tool import UseTool
from services.executor.domain.run import ReviewRules
from services.executor.domain.weather import Rules
from services.executor.engine.engine import Engine, Limits
from services.executor.engine.late_books import LateBooks
from services.executor.engine.runner import Runner
from services.executor.engine.store import COMMITTER_SETTINGS
from services.executor.engine.toolbox import Toolbox
from services.executor.engine.weather.calls import Calls
from services.executor.engine.weather.gate import Doorman
from services.executor.engine.weather.routes import Routes
from services.executor.engine.weather.station import Station
from services.executor.engine.weather.view import View
from services.executor.handlers import Executor
from services.executor.providers import Providers
from services.executor.reconciling.reconciler import Reconciler
from services.executor.retention.rules import register as register_retention
from services.executor.reviewing.handlers import Reviewing
from services.executor.settings import ExecutorSettings
from services.executor.spending.budgets import Budgets
from services.executor.spending.purses import Purses
from services.executor.spending.till import Till
from services.executor.spending.treasurer import Treasurer
from services.executor.steering.dead import DeadOrders
from services.executor.steering.handlers import Steering
from services.executor.store import RunStore
from services.executor.subscribers import subscribe

PROBE_SLACK_SECONDS = 10.0  # what a probe may take beyond connecting and its first token


async def build(chassis: Chassis, tools: Sequence[type[UseTool]] = TOOLS) -> None:
    settings: ExecutorSettings = chassis.settings
    llm = LlmSettings.load()
    models = Models(llm)
    station = _station(chassis, settings, llm)
    await station.load()  # before anything starts: an open circuit must not be run into
    till = Till(chassis.uow)
    purses = Purses(till, lambda: engine.lease.worker)
    treasurer = Treasurer(chassis.pool, chassis.uow, chassis.bus, till, every=settings.reconcile_s)
    late_books = LateBooks(chassis.pool)
    runner = Runner(
        chassis.pool,
        models,
        Calls(models, station),
        chassis.blobs,
        chassis.bus,
        Toolbox(chassis.bus, offered(settings.tools, tools)),
        purses,
        late_books,
        node_timeout=settings.node_timeout_s,
        rounds=settings.tool_rounds,
    )
    committer_connection = partial(
        connect, settings.database_url.get_secret_value(), chassis.name, **COMMITTER_SETTINGS
    )
    doorman = Doorman(station, Routes(models, llm.llm_fallbacks))
    engine = Engine(chassis.pool, committer_connection, chassis.relay, runner.perform, doorman, _limits(settings))
    executor = Executor(chassis.uow, RunStore(chassis.pool), chassis.bus, models, engine.welcome, settings.default_gate)
    engine.committer.on_short_of_money = treasurer.call
    engine.committer.on_void = late_books.book_void
    engine.committer.on_broken_order = DeadOrders(chassis.uow, chassis.dead_letters, chassis.bus).blame
    subscribe(
        chassis.bus,
        executor,
        Steering(chassis.uow, chassis.bus, models),
        Reviewing(chassis.uow, chassis.pool, chassis.bus),
        Providers(chassis.pool, models),
        Budgets(chassis.uow, chassis.pool, till, treasurer.call),
        engine,
        station,
    )
    chassis.background("weather", station.run)
    chassis.background("engine", engine.run)
    chassis.background("reconciler", _reconciler(chassis, settings).run)
    chassis.background("treasurer", treasurer.run)
    register_retention(chassis.retention, chassis.blobs, settings)
    chassis.background("models", partial(warm_up, models))
    chassis.health.add("lease", engine.check)
    for drain in (engine.drain, late_books.drain, purses.drain, station.drain, models.aclose):
        chassis.on_drain(drain)


def offered(wanted: str, tools: Sequence[type[UseTool]]) -> Sequence[type[UseTool]]:
    """Raises BadSettings for a name that no tool has."""
    if (named := wanted.strip().lower()) in ("all", "none"):
        return tools if named == "all" else ()
    known = {tool.name(): tool for tool in tools}
    names = [name.strip() for name in named.split(",")]
    if unknown := [name for name in names if name not in known]:
        raise BadSettings(
            f"EXECUTOR_TOOLS={wanted!r}: {', '.join(map(repr, unknown))} is no tool; give all, none, or of"
            f" {', '.join(sorted(known))}"
        )
    return [known[name] for name in dict.fromkeys(names)]


def _station(chassis: Chassis, settings: ExecutorSettings, llm: LlmSettings) -> Station:
    rules = Rules(
        probe=settings.weather_probe_s,
        first_rest=settings.weather_first_rest_s,
        longest_rest=settings.weather_longest_rest_s,
        outage=settings.weather_outage_s,
        patience=llm.llm_connect_timeout_s + llm.llm_first_token_timeout_s + PROBE_SLACK_SECONDS,
    )
    view = View(settings.concurrency)
    return Station(chassis.pool, chassis.uow, chassis.bus, view, rules, poll=settings.poll_s)


def _reconciler(chassis: Chassis, settings: ExecutorSettings) -> Reconciler:
    every, stall = settings.reconcile_s, settings.stall_seconds
    return Reconciler(chassis.pool, chassis.uow, chassis.bus, every=every, stall=stall)


def _limits(settings: ExecutorSettings) -> Limits:
    return Limits(
        concurrency=settings.concurrency,
        most_runs=settings.most_runs,
        lease=settings.lease_s,
        poll=settings.poll_s,
        quiet=settings.quiet_s,
        drain=settings.drain_s,
        review=ReviewRules(
            timedelta(seconds=settings.review_deadline_s) if settings.review_deadline_s else None,
            settings.review_overdue,
        ),
    )
