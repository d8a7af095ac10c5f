"""Reads from a provider's headers when the limit that was reached is lifted, where it says no Retry-After."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
UNITS = (86_400.0, 3600.0, 60.0, 1.0, 0.001)
FIRST_EPOCH_SECONDS = 1e9  # what is larger is a date: nobody rests for thirty years
FIRST_EPOCH_MILLISECONDS = 1e12


def reset_in(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds; of several limits that are used up the longest. Names are in lower case, as in
    `x-ratelimit-reset-tokens: 6m0s` or `anthropic-ratelimit-requests-reset: 2026-11-21T12:00:00Z`."""
    used_up = (value for name, value in headers.items() if _is_used_up(name, headers))
    waits = (wait for value in used_up if (wait := _seconds(value.strip(), now)) is not None)
    return max(waits, default=None)


def _is_used_up(name: str, headers: Mapping[str, str]) -> bool:
    if "ratelimit" not in name or "reset" not in name:
        return False
    return headers.get(name.replace("reset", "remaining"), "").strip() == "0"


def _seconds(value: str, now: datetime) -> float | None:
    if re.fullmatch(r"\d+(\.\d+)?", value):
        return _from_number(float(value), now)
    if value and (duration := DURATION.fullmatch(value)):
        return sum(float(part or 0) * unit for part, unit in zip(duration.groups(), UNITS, strict=True))
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds())


def _from_number(number: float, now: datetime) -> float:
    if number >= FIRST_EPOCH_MILLISECONDS:
        number /= 1000
    return max(0.0, number - now.timestamp()) if number >= FIRST_EPOCH_SECONDS else number
