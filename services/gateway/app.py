"""Composition root: settings to parts, parts to routes, and the middleware around them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.middleware import Middleware

from chassis.owner_requests import release
from chassis.postgres import Connection, connect
from chassis.retention import DAY
from chassis.service import Chassis, running
from contracts.streams import TIMELINE
from services.gateway import openapi, problems
from services.gateway.access import Access
from services.gateway.auth import Authenticate, Keyless, OwnNames
from services.gateway.bodies import Bodies
from services.gateway.deps import Parts
from services.gateway.presence import Presence
from services.gateway.renderer import Renderer
from services.gateway.request_ids import RequestIds
from services.gateway.retention.rules import register as register_retention
from services.gateway.routes import docs, health
from services.gateway.routing import offer
from services.gateway.settings import GatewaySettings
from services.gateway.store import Feed
from services.gateway.stream import Streams
from services.gateway.tail import Tail
from services.gateway.telling.store import PROJECTOR_SETTINGS
from services.gateway.timeline import DOORBELL, Projector
from services.gateway.uploads import Uploads
from services.gateway.watching import Watching

ACCEPTED = [
    *("X-API-Key", "X-Role", "X-Request-ID", "X-Timezone", "X-Actor"),
    *("Idempotency-Key", "Content-Type", "Last-Event-ID", "Range", "If-Range", "If-None-Match"),
]
EXPOSED = [
    *("X-Request-ID", "X-Total-Count", "Link", "Location", "Retry-After", "Idempotent-Replayed"),
    *("Accept-Ranges", "Content-Disposition", "Content-Range", "ETag"),
]
OPEN_PATHS = health.OPEN_PATHS | docs.OPEN_PATHS
#: statuses that every route may answer: they come from the middleware and the conventions
EVERYWHERE = problems.describe(400, 401, 403, 413, 415, 422, 503)
#: a leader that vanished without a goodbye must not hold its lock for hours
KEEPALIVES = {"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3"}


class Api(Keyless):
    """`drain` ends the streams; a server calls it before it waits for its connections to close."""

    settings: GatewaySettings

    def openapi(self) -> dict[str, Any]:
        if not self.openapi_schema:
            self.openapi_schema = openapi.document(self)
        return self.openapi_schema

    async def drain(self) -> None:
        parts: Parts = self.state.parts
        parts.health.draining = True
        await parts.watching.streams.drain()


def _middleware(settings: GatewaySettings) -> list[Middleware]:
    """Outermost first."""
    key = settings.api_key.get_secret_value()
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=settings.origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=ACCEPTED,
            expose_headers=EXPOSED,
        ),
        Middleware(RequestIds),
        Middleware(Access),
        Middleware(problems.AnswerEverything),
        *([Middleware(OwnNames)] if settings.open_to_all else []),
        Middleware(
            Authenticate,
            key=key,
            required=settings.require_api_key,
            rbac=settings.feature_rbac,
            open_paths=OPEN_PATHS,
        ),
        Middleware(Bodies, limit=settings.body_limit, idle=settings.body_idle),
    ]


def assemble(chassis: Chassis) -> Parts:
    """Wires the timeline and everything that reads it."""
    settings: GatewaySettings = chassis.settings
    feed = Feed(chassis.pool)
    tail = Tail(feed, poll=settings.feed_poll)
    projector = Projector(
        connect=lambda: _connection(settings),
        pool=chassis.pool,
        bus=chassis.bus,
        blobs=chassis.blobs,
        dead_letters=chassis.dead_letters,
        batch=settings.timeline_batch,
        gap_patience=settings.gap_patience,
    )
    chassis.background("timeline", projector.run)
    chassis.background("tail", tail.run)
    register_retention(chassis.retention, settings)
    chassis.bus.on_signal("gateway", DOORBELL, tail.hear)
    chassis.dead_letters.replayers[TIMELINE.durable] = projector.replay
    watching = Watching(
        feed=feed,
        tail=tail,
        bus=chassis.bus,
        streams=Streams(settings.sse_streams),
        queue=settings.sse_queue,
        heartbeat=settings.sse_heartbeat,
        life=settings.sse_life,
        keep=settings.retention_timeline_days * DAY,
    )
    presence = Presence(chassis.bus)
    uploads = Uploads(chassis.blobs, settings.uploads)
    bus, blobs, health = chassis.bus, chassis.blobs, chassis.health
    return Parts(settings, release(), bus, blobs, feed, watching, presence, uploads, Renderer(), health)


async def _connection(settings: GatewaySettings) -> Connection:
    return await connect(settings.database_url.get_secret_value(), "gateway", **KEEPALIVES, **PROJECTOR_SETTINGS)


def create_app(settings: GatewaySettings) -> Api:
    """Raises BadSettings when the settings would leave the door open."""
    settings.refuse_what_is_unsafe()

    async def build(chassis: Chassis) -> None:
        app.state.parts = assemble(chassis)
        chassis.on_drain(app.drain)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with running("gateway", settings, build):
            yield

    app = Api(
        title="Fluidcrew",
        version=release(),
        lifespan=lifespan,
        middleware=_middleware(settings),
        responses=EVERYWHERE,
        redirect_slashes=False,
        openapi_url=None,  # ours are in `routes/docs.py`: the page needs no network, the document no event loop
        docs_url=None,
        redoc_url=None,
    )
    app.settings = settings
    problems.install(app)
    offer(app)
    if settings.otlp_endpoint:
        from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

        FastAPIInstrumentor.instrument_app(app, exclude_spans=["receive", "send"])
    return app
