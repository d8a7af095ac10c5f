"""Is it well? `/health` for people and scripts, `/livez` and `/readyz` for supervisors, `/metrics` for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from contracts.errors import Code, Rejection
from services.gateway.deps import CallerDep, PartsDep
from services.gateway.problems import describe
from services.gateway.schemas import ConditionOut, HealthOut

router = APIRouter(tags=["health"])
OPEN_PATHS = frozenset({"/health", "/livez", "/readyz"})


@router.get("/health", openapi_extra={"security": []})
async def health(parts: PartsDep) -> HealthOut:
    """Always 200; `status` is ok when the database and every owner answer."""
    failures = await parts.health.failures()
    owners = await parts.presence.owners()
    well = not failures and all(owners.values())
    return HealthOut(
        status=parts.presence.status(well=well),
        service="gateway",
        version=parts.version,
        db_ok="postgres" not in failures,
        uptime_s=round(parts.health.uptime, 3),
        orchestrator="ok" if all(owners.values()) else "down",
        owners=owners,
    )


@router.get(
    "/livez",
    openapi_extra={"security": []},
    responses={503: {"model": ConditionOut, "description": "The event loop is late"}},
)
async def livez(parts: PartsDep, response: Response) -> ConditionOut:
    if parts.health.alive():
        return ConditionOut(status="ok")
    response.status_code = 503
    return ConditionOut(status="failing", failures={"loop": "the event loop is late"})


@router.get(
    "/readyz",
    openapi_extra={"security": []},
    responses={503: {"model": ConditionOut, "description": "Not ready for requests"}},
)
async def readyz(parts: PartsDep, response: Response) -> ConditionOut:
    failures = await parts.health.failures()
    if failures:
        response.status_code = 503
    return ConditionOut(status="failing" if failures else "ok", failures=failures)


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **describe(404)},
)
async def metrics(parts: PartsDep, _: CallerDep) -> Response:
    """Prometheus text when METRICS_ENABLED=1."""
    if not parts.settings.metrics_enabled:
        raise Rejection(Code.NOT_FOUND, "metrics are off; set METRICS_ENABLED=1")
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
