"""What endpoints ask for, as sentences."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

from fastapi import Depends, Header, Path, Query, Request, Response

from chassis.blobs import Blobs
from chassis.bus import Bus
from chassis.context import Context
from chassis.health import Health
from contracts.errors import Code, Rejection
from contracts.refs import Slug
from services.gateway.asking import Desk
from services.gateway.auth import Caller, company_for
from services.gateway.domain import roles, times
from services.gateway.domain.forms import Form, wanted_form
from services.gateway.domain.places import bare
from services.gateway.domain.roles import Role
from services.gateway.presence import Presence
from services.gateway.renderer import Renderer
from services.gateway.settings import GatewaySettings
from services.gateway.store import Feed
from services.gateway.uploads import Uploads
from services.gateway.watching import Watching


@dataclass(frozen=True, slots=True)
class Parts:
    """What a running gateway consists of; made by its lifespan."""

    settings: GatewaySettings
    version: str
    bus: Bus
    blobs: Blobs
    feed: Feed
    watching: Watching
    presence: Presence
    uploads: Uploads
    renderer: Renderer
    health: Health


def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


PartsDep = Annotated[Parts, Depends(_parts)]


def _caller(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


CallerDep = Annotated[Caller, Depends(_caller)]

CompanyPath = Annotated[Slug, Path(description="id of the company", examples=["default"])]
ProjectPath = Annotated[Slug, Path(description="id of the project", examples=["default"])]
ScopeIdPath = Annotated[
    str,
    Path(
        min_length=1,
        max_length=200,
        description="id of the company, project or task, or the name of the agent",
        examples=["ada"],
    ),
]


def _company(request: Request, caller: CallerDep) -> str:
    """Routes that are offered under a company do not declare it themselves: `routing.py` does."""
    return company_for(caller, request.path_params.get("company"))


def _project(request: Request) -> str | None:
    named: str | None = request.path_params.get("project")
    return named


CompanyDep = Annotated[str, Depends(_company)]
ProjectDep = Annotated[str | None, Depends(_project)]


def _admin(caller: CallerDep) -> Caller:
    roles.require(caller.role, Role.ADMIN)
    return caller


AdminDep = Annotated[Caller, Depends(_admin)]

TimezoneHeader = Annotated[
    str | None,
    Header(
        alias="X-Timezone",
        max_length=64,
        description="IANA zone for the answer's timestamps",
        examples=["Europe/Paris"],
    ),
]


def _desk(
    request: Request,
    response: Response,
    parts: PartsDep,
    caller: CallerDep,
    company: CompanyDep,
    x_timezone: TimezoneHeader = None,
) -> Desk:
    request_id = request.state.request_id
    context = Context(request_id=request_id, correlation_id=request_id, actor=caller.key_id, role=caller.role.value)
    return Desk(parts.bus, context, company, times.zone(x_timezone), response.headers)


DeskDep = Annotated[Desk, Depends(_desk)]

ActorHeader = Annotated[
    str | None,
    Header(
        alias="X-Actor",
        max_length=50,
        pattern=r"^[\x21-\x7e][\x20-\x7e]*$",
        description="who gives the order, for people to read; it proves nothing",
        examples=["ada"],
    ),
]


def _ordered_by(request: Request, caller: CallerDep, x_actor: ActorHeader = None) -> str:
    """`ada, admin (request 4f1c…)`: the name somebody goes by, the role of the key, and where to find more."""
    who = f"{x_actor.strip()}, {caller.role}" if x_actor else str(caller.role)
    return f"{who} (request {request.state.request_id})"


OrderedByDep = Annotated[str, Depends(_ordered_by)]

IdempotencyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e][\x20-\x7e]*$",
        description="the same request with the same key has one effect and one answer; a repetition is answered with"
        " `Idempotent-Replayed: true`",
    ),
]


def _command_id(
    request: Request, caller: CallerDep, company: CompanyDep, idempotency_key: IdempotencyHeader = None
) -> UUID:
    """Same key, company, method, place and Idempotency-Key: same command, whichever address of the place was used."""
    if idempotency_key is None:
        return uuid4()
    path = bare(request.url.path, request.path_params)
    scope = f"{company}\n{caller.key_id}\n{request.method}\n{path}\n{idempotency_key}"
    return uuid5(NAMESPACE_URL, scope)


CommandIdDep = Annotated[UUID, Depends(_command_id)]


def _own_request_id(request: Request) -> str | None:
    """The request id when the client itself sent one: only then a repetition is meant."""
    return request.state.request_id if request.state.request_id_given else None


OwnRequestIdDep = Annotated[str | None, Depends(_own_request_id)]


def _with_request_id(given: OwnRequestIdDep) -> str:
    if given is None:
        raise Rejection(
            Code.BAD_REQUEST,
            "send an X-Request-ID header: what is said of a result is kept with the request it came in",
        )
    return given


#: for routes that are refused without one; `openapi_extra=NEEDS_REQUEST_ID` says so
NeedsRequestId = Depends(_with_request_id)
NEEDS_REQUEST_ID = {"parameters": [{"$ref": "#/components/parameters/NeededRequestId"}]}


def _received_at(request: Request) -> datetime:
    received: datetime = request.state.received_at
    return received


ReceivedAtDep = Annotated[datetime, Depends(_received_at)]


def _form(
    response: Response, accept: Annotated[str | None, Header(max_length=1000, include_in_schema=False)] = None
) -> Form:
    response.headers["Vary"] = "Accept"
    return wanted_form(accept)


FormDep = Annotated[Form, Depends(_form)]

TimeRange = tuple[datetime | None, datetime | None]


def _started(started_from: datetime | None = None, started_to: datetime | None = None) -> TimeRange:
    return times.checked_range(started_from, started_to, "started")


def _happened(ts_from: datetime | None = None, ts_to: datetime | None = None) -> TimeRange:
    return times.checked_range(ts_from, ts_to, "ts")


def _created(created_from: datetime | None = None, created_to: datetime | None = None) -> TimeRange:
    return times.checked_range(created_from, created_to, "created")


StartedDep = Annotated[TimeRange, Depends(_started)]
HappenedDep = Annotated[TimeRange, Depends(_happened)]
CreatedDep = Annotated[TimeRange, Depends(_created)]

Filter = Annotated[str | None, Query(max_length=200)]
VersionPath = Annotated[int, Path(ge=1, le=2**31 - 1)]


def _last_event_id(
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID", max_length=200)] = None,
    from_query: Annotated[str | None, Query(alias="last_event_id", max_length=200)] = None,
) -> str | None:
    return last_event_id or from_query


LastEventIdDep = Annotated[str | None, Depends(_last_event_id)]
