"""Reads `--since`: a duration back from now, a moment, or a sequence number of the stream."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from fluidcrew.exits import Exit, Halt

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")


@dataclass(frozen=True, slots=True)
class Since:
    """Exactly one of the two is set."""

    at: datetime | None = None
    sequence: int | None = None


def parse_since(text: str, now: datetime | None = None) -> Since:
    """`10m`, `1h30m`, `2025-03-01T12:00:00Z`, `4711`. Raises Halt for anything else."""
    given = text.strip()
    if given.isdecimal() and len(given) < 19:
        return Since(sequence=max(1, int(given)))
    if DURATION.sub("", given) == "" and given:
        parts = {UNITS[unit]: float(number) for number, unit in DURATION.findall(given)}
        return Since(at=_before(now or datetime.now(UTC), parts, text))
    try:
        at = datetime.fromisoformat(given)
    except ValueError:
        raise Halt(Exit.USAGE, f"--since {text}: give 10m, 1h30m, 2025-03-01T12:00:00Z or a sequence number") from None
    return Since(at=(at if at.tzinfo else at.astimezone()).astimezone(UTC))


def _before(now: datetime, parts: dict[str, float], text: str) -> datetime:
    try:
        return now - timedelta(**parts)
    except OverflowError:
        raise Halt(Exit.USAGE, f"--since {text}: that is before the calendar begins") from None
