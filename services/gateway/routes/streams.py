"""Streams of server-sent events: the facts of a run, resumable, and the tokens its models produce right now."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from fastapi import APIRouter

from services.gateway.deps import CallerDep, DeskDep, LastEventIdDep, Parts, PartsDep
from services.gateway.known import refuse_unknown_run
from services.gateway.problems import describe
from services.gateway.stream import EventStream

router = APIRouter(tags=["streams"])

SSE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "Server-sent events"},
    **describe(404),
}
FACTS = """`event: message` with an Event as `data` and `<epoch>.<position>` as `id`; a comment as heartbeat.

Starts with the run's first fact, or after `Last-Event-ID` (header or `last_event_id` parameter) without gap or repeat.
`event: reset`: that id is unknown here, forget what you saw, the run is told from its beginning. `event: reconnect` and
`event: bye` end the stream; connect again with your last id."""


async def _facts(
    desk: DeskDep, parts: Parts, caller: CallerDep, run_id: UUID, last_event_id: str | None
) -> EventStream:
    parts.watching.streams.refuse_when_full()
    await refuse_unknown_run(desk, parts.feed, caller.company, run_id)
    return EventStream(parts.watching.facts(caller.company, run_id, last_event_id))


@router.get(
    "/events/stream",
    operation_id="stream_events",
    description=FACTS,
    response_class=EventStream,
    status_code=200,
    responses=SSE,
)
async def stream_events(
    desk: DeskDep, parts: PartsDep, caller: CallerDep, last_event_id: LastEventIdDep, run_id: UUID
) -> EventStream:
    return await _facts(desk, parts, caller, run_id, last_event_id)


@router.get(
    "/runs/{run_id}/stream",
    operation_id="stream_run",
    description=FACTS,
    response_class=EventStream,
    status_code=200,
    responses=SSE,
)
async def stream_run(
    desk: DeskDep, parts: PartsDep, caller: CallerDep, last_event_id: LastEventIdDep, run_id: UUID
) -> EventStream:
    return await _facts(desk, parts, caller, run_id, last_event_id)


@router.get(
    "/runs/{run_id}/tokens", operation_id="stream_tokens", response_class=EventStream, status_code=200, responses=SSE
)
async def stream_tokens(desk: DeskDep, parts: PartsDep, caller: CallerDep, run_id: UUID) -> EventStream:
    """`event: token` with `{run_id, node_id, key, attempt, index, text}`, from now on: tokens are not stored."""
    parts.watching.streams.refuse_when_full()
    await refuse_unknown_run(desk, parts.feed, caller.company, run_id)
    return EventStream(parts.watching.tokens(caller.company, run_id))
