"""In which zone is an answer shown, and is a range of time one that may be asked for?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BaseModel

from contracts.errors import Code, Rejection

T = TypeVar("T")

LONGEST_RANGE = timedelta(days=31)
#: a tz database also holds files that are no zone people live in
ZONES = frozenset(available_timezones()) | {"UTC"}


def zone(name: str | None) -> ZoneInfo | None:
    """None means UTC, as everything is stored: then there is nothing to convert."""
    if name is None or name in ("UTC", "Etc/UTC"):
        return None
    if name not in ZONES:
        raise Rejection(
            Code.BAD_REQUEST, f"X-Timezone {name[:60]!r} is no known zone; use an IANA name such as Europe/Paris"
        )
    return ZoneInfo(name)


def shown_in(value: T, zone: ZoneInfo | None) -> T:
    """The same answer with every timestamp in the zone; texts that merely look like one stay as they are."""
    return value if zone is None else _convert(value, zone)


def _convert(value: Any, zone: ZoneInfo) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(zone)
    if isinstance(value, BaseModel):
        return value.model_copy(update={name: _convert(field, zone) for name, field in value})
    if isinstance(value, list):
        return [_convert(item, zone) for item in value]
    if isinstance(value, dict):
        return {key: _convert(item, zone) for key, item in value.items()}
    return value


def _utc(moment: datetime | None, name: str) -> datetime | None:
    if moment is None:
        return None
    try:
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError:
        raise Rejection(Code.BAD_REQUEST, f"{name} is outside the calendar") from None


def checked_range(start: datetime | None, end: datetime | None, name: str) -> tuple[datetime | None, datetime | None]:
    """Both bounds in UTC (one without an offset is read as UTC), in order, at most 31 days apart."""
    start, end = _utc(start, f"{name}_from"), _utc(end, f"{name}_to")
    if start and end and start > end:
        raise Rejection(Code.BAD_REQUEST, f"{name}_from is after {name}_to; swap them")
    if start and end and end - start > LONGEST_RANGE:
        raise Rejection(Code.BAD_REQUEST, f"{name}_from and {name}_to are more than {LONGEST_RANGE.days} days apart")
    return start, end
