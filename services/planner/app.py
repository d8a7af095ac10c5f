"""The planner's composition: settings, adapters, handlers, subscriptions."""

from __future__ import annotations

from functools import partial

from chassis.jobs import Jobs
from chassis.llm.models import Models
from chassis.llm.remote_purse import RemotePurses
from chassis.llm.settings import LlmSettings
from chassis.llm.warming import warm_up
from chassis.service import Chassis
from services.planner.adapters.drafting import Supervisor
from services.planner.adapters.task_files import TaskFiles
from services.planner.handlers import drafting, intents
from services.planner.handlers.auto_start import AutoStart
from services.planner.handlers.companies import Companies
from services.planner.handlers.control import Control
from services.planner.handlers.dependencies import Dependencies
from services.planner.handlers.drafting import Drafting
from services.planner.handlers.launching import Launching
from services.planner.handlers.plans import Plans
from services.planner.handlers.reconciling import Reconciler
from services.planner.handlers.retrying import Retrying
from services.planner.handlers.runs import Runs
from services.planner.handlers.starting import Starting
from services.planner.handlers.tasks import Tasks
from services.planner.settings import PlannerSettings
from services.planner.store.in_use import JOB_OF_A_TASK, ORDERS_A_LIVING_RUN
from services.planner.subscribers import Handlers, subscribe

LEASE = 5.0  # seconds until an intention whose planner died is taken over
AT_ONCE = 16  # intentions of each kind that one process carries out at a time


async def build(chassis: Chassis) -> None:
    settings: PlannerSettings = chassis.settings
    uow, pool, jobs, bus = chassis.uow, chassis.pool, chassis.jobs, chassis.bus
    models = Models(LlmSettings())
    purses = RemotePurses(bus, uow, jobs)
    starting = Starting(uow, bus, jobs)
    auto_start = AutoStart(uow, jobs, starting)
    handlers = Handlers(
        companies=Companies(uow, pool),
        tasks=Tasks(uow, pool, jobs, settings),
        dependencies=Dependencies(uow, pool, jobs),
        plans=Plans(uow, pool, jobs, models),
        drafting=Drafting(
            uow, pool, jobs, models, Supervisor(models, settings.draft_timeout), purses, auto_start, settings
        ),
        launching=Launching(uow, pool, jobs, starting, TaskFiles(settings.task_files_dir), settings),
        retrying=Retrying(uow, pool, bus, starting),
        control=Control(uow, pool, bus, jobs, wait=settings.control_wait),
        runs=Runs(uow, jobs),
    )
    subscribe(bus, handlers)
    _register_jobs(jobs, handlers, auto_start, settings)
    reconciler = Reconciler(uow, pool, bus, jobs, handlers.dependencies, every=settings.reconcile_s)
    chassis.background("reconciler", reconciler.run)
    chassis.background("models", partial(warm_up, models))
    chassis.on_drain(partial(jobs.drain, 0.0))  # a draft that is cut off has its call settled
    chassis.on_drain(purses.drain)
    chassis.retention.spare("commands", ORDERS_A_LIVING_RUN)
    chassis.retention.spare("jobs", JOB_OF_A_TASK)


def _register_jobs(jobs: Jobs, handlers: Handlers, auto_start: AutoStart, settings: PlannerSettings) -> None:
    jobs.register(
        drafting.KIND,
        handlers.drafting.work,
        concurrency=settings.draft_concurrency,
        max_attempts=drafting.ATTEMPTS,
        lease=settings.draft_lease,
    )
    intentions = {
        intents.CONTROL: handlers.control.work,
        intents.START: auto_start.work,
        intents.RELEASE: handlers.dependencies.work,
    }
    for kind, work in intentions.items():
        jobs.register(kind, work, concurrency=AT_ONCE, max_attempts=intents.ATTEMPTS, lease=LEASE)
