"""Where in a company's feed does a watcher stand?"""

from __future__ import annotations

import re
from dataclasses import dataclass

PATTERN = re.compile(r"^([0-9a-f]{8})\.([0-9]{1,18})$")


@dataclass(frozen=True, slots=True)
class Cursor:
    """The SSE id `<epoch>.<position>`. An epoch changes only when the feed was restored or rebuilt."""

    epoch: str
    position: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.position}"


@dataclass(frozen=True, slots=True)
class Resumption:
    """From where a stream goes on. `reset` says why what the client holds can no longer be continued."""

    after: int
    reset: str | None = None


def parse(text: str) -> Cursor | None:
    match = PATTERN.match(text.strip())
    return Cursor(match[1], int(match[2])) if match else None


def resume(last_event_id: str | None, head: Cursor, floor: int = 0) -> Resumption:
    """The story is told from its beginning unless the client proves what it has seen of this very feed.

    What lies at or below `floor` has been forgotten because of its age.
    """
    if not last_event_id:
        return Resumption(0)
    cursor = parse(last_event_id)
    if cursor is None:
        return Resumption(0, "the Last-Event-ID is not one of ours")
    if cursor.epoch != head.epoch:
        return Resumption(0, "the feed was rebuilt since")
    if cursor.position > head.position:
        return Resumption(0, "the Last-Event-ID is ahead of the feed")
    if cursor.position < floor:
        return Resumption(0, "what came after the Last-Event-ID is no longer kept")
    return Resumption(cursor.position)
