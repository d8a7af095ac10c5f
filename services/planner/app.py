"""The planner's composition: settings, adapters, handlers, subscriptions."""

from __future__ import annotations

from chassis.llm.models import Models
from chassis.llm.settings import LlmSettings
from chassis.service import Chassis
from services.planner.adapters.drafting import Supervisor
from services.planner.adapters.task_files import TaskFiles
from services.planner.handlers.drafting import ATTEMPTS, KIND, Drafting
from services.planner.handlers.launching import Launching
from services.planner.handlers.plans import Plans
from services.planner.handlers.runs import Runs
from services.planner.handlers.starting import Starting
from services.planner.handlers.tasks import Tasks
from services.planner.settings import PlannerSettings
from services.planner.subscribers import subscribe


async def build(chassis: Chassis) -> None:
    settings: PlannerSettings = chassis.settings
    uow, pool, jobs = chassis.uow, chassis.pool, chassis.jobs
    models = Models(LlmSettings())
    starting = Starting(uow, chassis.bus)
    supervisor = Supervisor(models, settings.draft_timeout)
    drafting = Drafting(uow, pool, jobs, models, supervisor, starting, settings)
    subscribe(
        chassis.bus,
        Tasks(uow, pool, jobs, settings),
        Plans(uow, pool, models),
        drafting,
        Launching(uow, pool, jobs, starting, TaskFiles(settings.task_files_dir), settings),
        Runs(uow),
    )
    jobs.register(
        KIND,
        drafting.work,
        concurrency=settings.draft_concurrency,
        max_attempts=ATTEMPTS,
        lease=settings.draft_lease,
    )
