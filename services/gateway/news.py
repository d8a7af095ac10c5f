"""A fact on its way to people: as an Event of the API, and as the frame of a stream."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from zoneinfo import ZoneInfo

from services.gateway.domain.cursor import Cursor
from services.gateway.domain.times import shown_in
from services.gateway.schemas import Event
from services.gateway.store import Told
from services.gateway.stream import Frame


def event_of(told: Told, epoch: str) -> Event:
    return Event(
        id=told.message_id,
        cursor=str(Cursor(epoch, told.position)),
        run_id=told.run_id,
        node_id=told.node_id,
        task_id=told.task_id,
        level=told.level,
        message=told.message,
        timestamp=told.at,
        request_id=told.request_id,
    )


@dataclass(frozen=True)
class News:
    """Encoded once, however many watch in UTC."""

    epoch: str
    told: Told

    @cached_property
    def frame(self) -> bytes:
        return self._shown_in(None)

    def frame_in(self, zone: ZoneInfo | None) -> bytes:
        return self.frame if zone is None else self._shown_in(zone)

    def _shown_in(self, zone: ZoneInfo | None) -> bytes:
        event = shown_in(event_of(self.told, self.epoch), zone)
        return Frame("message", event.model_dump_json(), id=event.cursor).encode()
