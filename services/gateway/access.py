"""Counts, times and logs every request by the template of its route, never by its concrete URL."""

from __future__ import annotations

import logging
import time

import structlog
from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.gateway.domain.roles import READING
from services.gateway.problems import METHODS

log = structlog.get_logger(__name__)

REQUESTS = Counter("http_requests_total", "HTTP requests answered", ["method", "route", "status"])
SECONDS = Histogram(
    "http_request_seconds",
    "Time until the answer began",
    ["method", "route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
PROBES = frozenset({"/health", "/livez", "/readyz", "/metrics"})
SCOPES = {"company": "/companies/{company}", "project": "/projects/{project}"}


def template_of(scope: Scope) -> str:
    """A route that is offered under several prefixes knows none of them."""
    path, parameters = str(getattr(scope.get("route"), "path", "unmatched")), scope.get("path_params", {})
    missing = [name for name in SCOPES if name in parameters and f"{{{name}}}" not in path]
    return "".join(SCOPES[name] for name in missing) + path


def level_of(method: str, route: str, status: int) -> int:
    """Reading that went well is counted and traced, no more; whatever may have changed something is in the log.

    Probes say 503 on purpose.
    """
    if route in PROBES or (status < 400 and method in READING):
        return logging.DEBUG
    return logging.WARNING if status >= 500 else logging.INFO


class Access:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, method = time.perf_counter(), scope["method"] if scope["method"] in METHODS else "OTHER"

        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start":
                seconds, status, route = time.perf_counter() - began, message["status"], template_of(scope)
                REQUESTS.labels(method, route, status).inc()
                SECONDS.labels(method, route).observe(seconds)
                level, ms = level_of(method, route, status), round(seconds * 1000, 1)
                log.log(level, "http.answered", method=method, route=route, status=status, ms=ms)
            await send(message)

        await self.app(scope, receive, watch)
