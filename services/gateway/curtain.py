"""The curtain of a stream: it falls when the run that is watched is over, and stays up when the run is reopened in time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

from services.gateway.domain.course import TASK_PATIENCE, Course
from services.gateway.domain.cursor import Cursor
from services.gateway.store import Told
from services.gateway.stream import Frame, Mailbox, ending

OVER = "over"


def course_of(facts: Iterable[Told], before: Course | None = None) -> Course:
    course = before or Course()
    for told in facts:
        course = course.after(told.level, told.task_id, told.at)
    return course


class Curtain:
    def __init__(self, mailbox: Mailbox[Any]) -> None:
        self._mailbox = mailbox
        self._course = Course()
        self._falling: asyncio.TimerHandle | None = None

    def begin(self, course: Course) -> None:
        self._course = course

    def heard(self, facts: Iterable[Told]) -> None:
        self._course = course_of(facts, self._course)

    def set(self) -> None:
        """Everything known by now has been heard: when that is the end, the mailbox is closed."""
        if self._falling is not None:
            self._falling.cancel()
            self._falling = None
        if self._course.ended is not None:
            quiet = TASK_PATIENCE.total_seconds() if self._course.task_follows else 0
            self._falling = asyncio.get_running_loop().call_later(quiet, self._mailbox.close, OVER)

    def last_frame(self, otherwise: str, at: Cursor | None = None) -> bytes:
        """What ends the stream. A run that was reopened while the curtain fell is watched on by another connection."""
        if self._mailbox.closed == OVER and self._course.ended is not None:
            data = json.dumps({"status": self._course.ended})
            return Frame("end", data, id=None if at is None else str(at)).encode()
        return ending(self._mailbox.closed or otherwise)
