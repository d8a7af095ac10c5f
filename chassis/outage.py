"""Something a loop stands on is away: said once when that begins and once when it is over, however often it is tried."""

from __future__ import annotations

import random
import time

import structlog

log = structlog.get_logger(__name__)

LONGEST_PAUSE = 1.0  # seconds


class Outage:
    """Of one thing, as one loop sees it. `what` names both log lines: `<what>_gone` and `<what>_back`."""

    def __init__(self, what: str, **about: str) -> None:
        self._gone, self._back = f"{what}_gone", f"{what}_back"
        self._about = about
        self._since: float | None = None

    @property
    def lasts(self) -> bool:
        return self._since is not None

    def noticed(self, error: BaseException) -> None:
        if self._since is None:
            self._since = time.monotonic()
            log.warning(self._gone, error=str(error) or repr(error), **self._about)

    def over(self) -> None:
        if self._since is not None:
            log.info(self._back, after_s=round(time.monotonic() - self._since, 1), **self._about)
            self._since = None

    def pause(self) -> float:
        """Seconds until the next try: the longer it lasts the longer, and never all loops at the same moment."""
        lasted = 0.0 if self._since is None else time.monotonic() - self._since
        return random.uniform(0.5, 1.0) * min(LONGEST_PAUSE, 0.1 + lasted)
