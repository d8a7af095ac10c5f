"""Publisher's composition: settings, the depot of bytes, handlers, subscriptions, the server of previews."""

from __future__ import annotations

import socket
from functools import partial

from chassis.depot import Depot, Strays
from chassis.retention import DAY
from chassis.scratch import Scratch
from chassis.service import Chassis
from chassis.settings import BadSettings
from services.publisher.adapters.unpacker import Unpacker
from services.publisher.domain.addresses import Origin
from services.publisher.handlers import collecting, publishing, sweeping
from services.publisher.handlers.artifacts import Artifacts
from services.publisher.handlers.collecting import Collecting
from services.publisher.handlers.deletions import Deletions
from services.publisher.handlers.previews import Previews
from services.publisher.handlers.publishing import Publishing
from services.publisher.handlers.shares import Shares
from services.publisher.handlers.strays import every_company
from services.publisher.handlers.sweeping import OldVersions, Sweeping
from services.publisher.handlers.tools import Tools
from services.publisher.handlers.undelivered import Undelivered
from services.publisher.serving.application import Application
from services.publisher.serving.server import Server
from services.publisher.serving.shelf import Shelf
from services.publisher.serving.sites import Sites
from services.publisher.settings import PublisherSettings
from services.publisher.store.objects import DELIVERABLES
from services.publisher.subscribers import subscribe

TO_FINISH = 0.8  # of the time to drain that work under way has; the rest of it is handed back


async def build(chassis: Chassis) -> None:
    settings: PublisherSettings = chassis.settings
    uow, pool, bus, jobs, shown_to = chassis.uow, chassis.pool, chassis.bus, chassis.jobs, settings.preview_visibility
    listening = listen(settings)
    origin, depot = Origin.of(settings.origin(listening.getsockname()[1])), Depot(chassis.blobs, pool, DELIVERABLES)
    means = (uow, pool, jobs, bus, depot, origin, shown_to)
    results = Collecting(*means)
    sweeper = Sweeping(uow, pool, jobs, depot, keep=settings.keep, unused_after=settings.unused_after)
    subscribe(
        bus,
        Artifacts(uow, pool, bus, depot, origin),
        Previews(*means),
        Shares(uow, pool, origin),
        sweeper,
        Tools(uow, depot),
        results,
        Deletions(uow),
    )
    lease = settings.lease
    jobs.register(
        collecting.KIND,
        results.work,
        concurrency=settings.concurrency,
        max_attempts=collecting.ATTEMPTS,
        lease=lease,
    )
    scratch = Scratch("publisher")
    publication = Publishing(uow, pool, jobs, depot, origin, scratch, Unpacker())
    jobs.register(
        publishing.KIND,
        publication.work,
        concurrency=settings.publishing,
        max_attempts=publishing.ATTEMPTS,
        lease=lease,
    )
    jobs.register(sweeping.DELETE, sweeper.work, concurrency=1, lease=lease)
    keep = settings.retention_staged_days * DAY
    chassis.retention.add(Undelivered(bus, keep), OldVersions(sweeper), Strays(depot, partial(every_company, bus)))
    shown = Application(Sites(pool, origin), Shelf(depot, settings.cache), origin, settings.frames)
    chassis.background("previews", Server(shown, listening).run)
    chassis.on_drain(partial(jobs.drain, settings.drain_timeout * TO_FINISH))
    chassis.on_drain(scratch.close)


def listen(settings: PublisherSettings) -> socket.socket:
    """Several publishers on one machine share the port."""
    family = socket.AF_INET6 if ":" in settings.preview_host else socket.AF_INET
    address = (settings.preview_host, settings.preview_port)
    try:
        return socket.create_server(address, family=family, backlog=2048, reuse_port=True)
    except OSError as error:
        where = f"{settings.preview_host}:{settings.preview_port}"
        raise BadSettings(
            f"cannot listen on {where} ({error.strerror}); stop what holds it, or set PREVIEW_PORT to a free port"
        ) from None
