"""Traces, metrics and error reports: one trace from HTTP through NATS to SQL, spans and labels named by pattern.

Nothing is exported unless OTEL_EXPORTER_OTLP_ENDPOINT or SENTRY_DSN is set; the trace context is propagated either way.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import propagate, trace
from opentelemetry.trace import SpanKind, Status, StatusCode
from prometheus_client import Counter, Gauge, Histogram

from chassis.settings import ServiceSettings

tracer = trace.get_tracer("fluidcrew")

HANDLED = Counter("bus_handled_total", "Messages and requests handled", ["pattern", "outcome"])
DURATION = Histogram(
    "bus_handling_seconds",
    "Time to handle one message or request",
    ["pattern"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60),
)
REDELIVERED = Counter("bus_redelivered_total", "Messages that came more than once", ["consumer"])
RECONCILED = Counter("reconcile_fixes_total", "Things that should not have happened, found and mended", ["kind"])
LOOP_LAG = Gauge("event_loop_lag_seconds", "How late the event loop's last tick was")


@contextmanager
def span(name: str, kind: SpanKind, traceparent: str = "", **attributes: str) -> Iterator[trace.Span]:
    """A span under the given W3C parent, or under the current one when there is none."""
    parent = propagate.extract({"traceparent": traceparent}) if traceparent else None
    with tracer.start_as_current_span(name, context=parent, kind=kind, attributes=attributes) as current:
        try:
            yield current
        except Exception as error:
            current.set_status(Status(StatusCode.ERROR, str(error)))
            raise


def setup_tracing(service: str, version: str, settings: ServiceSettings) -> None:
    if not settings.otlp_endpoint:
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": service, "service.version": version}))
    endpoint = settings.otlp_endpoint.rstrip("/")
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces")))
    trace.set_tracer_provider(provider)
    AsyncPGInstrumentor().instrument()  # type: ignore[no-untyped-call]


def flush_tracing() -> None:
    provider = trace.get_tracer_provider()
    if (shutdown := getattr(provider, "shutdown", None)) is not None:
        shutdown()


def setup_sentry(service: str, settings: ServiceSettings) -> None:
    """Must be called inside the event loop: Sentry's asyncio integration only hooks a running one."""
    if settings.sentry_dsn is None:
        return
    import sentry_sdk
    from sentry_sdk.integrations.asyncio import AsyncioIntegration

    sentry_sdk.init(
        dsn=settings.sentry_dsn.get_secret_value(),
        environment=settings.sentry_env,
        release=settings.release,
        server_name=service,
        integrations=[AsyncioIntegration()],
        auto_enabling_integrations=False,
    )


def report(error: BaseException, **tags: str) -> None:
    """Tell Sentry of a bug that a handler raised. Does nothing when no DSN is set."""
    import sys

    if (sentry_sdk := sys.modules.get("sentry_sdk")) is None:
        return
    with sentry_sdk.isolation_scope() as scope:
        for key, value in tags.items():
            scope.set_tag(key, value)
        scope.capture_exception(error)
