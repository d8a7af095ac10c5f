"""Counts, times and logs every request by the template of its route, never by its concrete URL."""

from __future__ import annotations

import time

import structlog
from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = structlog.get_logger(__name__)

REQUESTS = Counter("http_requests_total", "HTTP requests answered", ["method", "route", "status"])
SECONDS = Histogram(
    "http_request_seconds",
    "Time until the answer began",
    ["method", "route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})


def template_of(scope: Scope) -> str:
    route = scope.get("route")
    return str(getattr(route, "path", "unmatched"))


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
                told = log.debug if route in ("/health", "/livez", "/readyz", "/metrics") else log.info
                told("http.answered", method=method, route=route, status=status, ms=round(seconds * 1000, 1))
            await send(message)

        await self.app(scope, receive, watch)
