"""Streams of server-sent events: the facts of a run, resumable, and the tokens its models produce right now."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Response

from services.gateway.deps import DeskDep, LastEventIdDep, Parts, PartsDep
from services.gateway.known import refuse_unknown_run
from services.gateway.problems import describe
from services.gateway.stream import EventStream

router = APIRouter(tags=["streams"])

SSE: dict[str, Any] = {
    "response_class": EventStream,
    "status_code": 200,
    "responses": {
        200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "Server-sent events"},
        204: {"description": "The run is over, and `Last-Event-ID` says that you know: do not connect again"},
        **describe(404),
    },
}
FACTS = """`event: message` with an Event as `data` and `<epoch>.<position>` as `id`; a comment as heartbeat.

Starts with the run's first fact, or after `Last-Event-ID` (header or `last_event_id` parameter) without gap or repeat.
`event: reset`: that id is unknown here, forget what you saw, the run is told from its beginning. `event: reconnect` and
`event: bye` end the stream; connect again with your last id. `event: end` with `{status}` ends it too: the run is over.
Connecting again with the last id is answered 204 then, unless the run was reopened."""
TOKENS = """`event: token` with `{run_id, node_id, key, attempt, index, text}`, from now on: tokens are not stored.

`event: end` with `{status}` when the run is over. Its `id` as `Last-Event-ID` (EventSource sends it when it connects again)
is answered 204, unless the run was reopened; other ids mean nothing here."""


@router.get("/events/stream", name="stream_events", description=FACTS, **SSE)
@router.get("/runs/{run_id}/stream", name="stream_run", description=FACTS, **SSE)
async def stream_facts(desk: DeskDep, parts: PartsDep, last_event_id: LastEventIdDep, run_id: UUID) -> Response:
    frames = parts.watching.facts(desk.company, run_id, last_event_id, desk.zone)
    return await _stream(desk, parts, run_id, last_event_id, frames)


@router.get("/runs/{run_id}/tokens", description=TOKENS, **SSE)
async def stream_tokens(desk: DeskDep, parts: PartsDep, last_event_id: LastEventIdDep, run_id: UUID) -> Response:
    return await _stream(desk, parts, run_id, last_event_id, parts.watching.tokens(desk.company, run_id))


async def _stream(
    desk: DeskDep,
    parts: Parts,
    run_id: UUID,
    last_event_id: str | None,
    frames: AsyncIterator[bytes],
) -> Response:
    if await parts.watching.has_seen_the_end(desk.company, run_id, last_event_id):
        return Response(status_code=204)
    parts.watching.streams.refuse_when_full()
    await refuse_unknown_run(desk, parts.feed, run_id)
    return EventStream(frames)
