"""Is a run over, as far as its facts say? A run that has ended may be reopened, so only the latest of them counts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from contracts.executor import RunStatus

ENDS = {f"RUN_{status.upper()}": status for status in (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELED)}
GOES_ON = frozenset({"RUN_QUEUED", "RUN_STARTED", "RUN_PAUSED", "RUN_RESUMED", "RUN_REOPENED", "NODE_STARTED"})
#: what the end of a run makes of its task: told by the planner, a moment later
TASK_FOLLOWED = frozenset({"TASK_COMPLETED", "TASK_FAILED", "TASK_CANCELED"})
#: after a run's end, while its task has not followed
TASK_PATIENCE = timedelta(seconds=3)
TELLING = ENDS.keys() | GOES_ON | TASK_FOLLOWED


@dataclass(frozen=True, slots=True)
class Course:
    """`ended` is the run's final status, None while it goes on. `task_follows`: its task has yet to say what that means.

    Not `known` when no fact says how the run stands: none has come yet, or they are no longer kept.
    """

    ended: RunStatus | None = None
    task_follows: bool = False
    known: bool = False
    at: datetime | None = None  # of its end

    def is_told(self, now: datetime) -> bool:
        """Whether nothing more will be told. A task that has not followed for so long never does: a rehearsal's, perhaps."""
        if self.ended is None or self.at is None:
            return self.ended is not None
        return not self.task_follows or now - self.at > TASK_PATIENCE

    def after(self, level: str, task_id: UUID | None, at: datetime) -> Course:
        if level in ENDS:
            return Course(ENDS[level], task_follows=task_id is not None, known=True, at=at)
        if level in GOES_ON:
            return Course(known=True)
        return replace(self, task_follows=False) if level in TASK_FOLLOWED else self


def course_of_old(status: RunStatus, ended_at: datetime | None, forgotten_before: datetime) -> Course:
    """What its executor says of a run without facts. Has it ended lately, they are still on their way."""
    over = status in ENDS.values() and ended_at is not None and ended_at < forgotten_before
    return Course(status, known=True) if over else Course()
