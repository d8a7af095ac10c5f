"""What the handlers of deliverables work with."""

from __future__ import annotations

from dataclasses import dataclass

from chassis.bus import Bus
from chassis.depot import Depot
from chassis.jobs import Jobs
from chassis.postgres import Pool
from chassis.unit_of_work import UnitOfWork
from contracts.artifacts import Visibility
from services.publisher.domain.addresses import Origin


@dataclass(frozen=True, slots=True)
class Means:
    """`shown_to` is for previews; everything else that is delivered is private until somebody says otherwise."""

    uow: UnitOfWork
    pool: Pool
    jobs: Jobs
    bus: Bus
    depot: Depot
    origin: Origin
    shown_to: Visibility
