"""A fact on its way to people: as an Event of the API, and as the frame of a stream."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from services.gateway.domain.cursor import Cursor
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
    """Encoded once, however many watch."""

    epoch: str
    told: Told

    @cached_property
    def frame(self) -> bytes:
        event = event_of(self.told, self.epoch)
        return Frame("message", event.model_dump_json(), id=event.cursor).encode()
