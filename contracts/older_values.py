"""What a single value of an older sidecar means: a number, a text, a moment, a part that was written another way."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from contracts.sidecar import RFC3339, shortened

MILLISECONDS_FROM = 1e11  # a number of seconds would be in the year 5138

Json = dict[str, Any]


def uuid4_of(text: str) -> str:
    return str(UUID(bytes=hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16], version=4))


def number_of(value: Any) -> float | int | None:
    """None for what is no number, or too large for one."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = float(value.strip().removeprefix("$")) if isinstance(value, str) else value
        return number if math.isfinite(number) else None
    except (ValueError, OverflowError):
        return None


def text_of(value: Any) -> str:
    """Without lone surrogates, which are no text."""
    written = value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)
    return written.encode("utf-8", "replace").decode() if not written.isascii() else written


def shown(value: Any) -> str:
    return "missing" if value is None else shortened(json.dumps(value), 80)


def moment_of(value: Any) -> str | None:
    """RFC 3339 as it is; times without a zone are UTC; numbers are seconds or milliseconds since 1970."""
    number = number_of(value)
    try:
        if number is not None:
            seconds = number / 1000 if abs(number) >= MILLISECONDS_FROM else number
            return datetime.fromtimestamp(seconds, UTC).isoformat()
        if not isinstance(value, str):
            return None
        read = datetime.fromisoformat(value.strip().upper())
        if RFC3339.fullmatch(value):
            return value
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return None


def turn_of(item: Any) -> Json:
    if not isinstance(item, Mapping):
        return {"role": "user", "content": item}
    role = item.get("role")
    return {**item, "role": role if isinstance(role, str) else "user", "content": item.get("content")}


def _object(value: Any) -> Json:
    return dict(value) if isinstance(value, Mapping) else {"value": value}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _retry(value: Any) -> Json:
    retry = dict(value) if isinstance(value, Mapping) else {"index": value}
    return retry | {"index": max(0, int(number_of(retry.get("index")) or 0))}


def _tools(value: Any) -> list[Json]:
    tools = [dict(item) if isinstance(item, Mapping) else {"name": item} for item in _list(value)]
    return [
        {k: text_of(v) if k in ("name", "version") else v for k, v in ({"name": ""} | tool).items()} for tool in tools
    ]


def _mistakes(value: Any) -> list[Json]:
    given = [dict(item) if isinstance(item, Mapping) else {"message": item} for item in _list(value)]
    return [_mistake(item) for item in given]


def _mistake(item: Json) -> Json:
    code, message = text_of(item.get("code") or item.get("type") or "unknown"), text_of(item.get("message"))
    kept = {k: v for k, v in item.items() if k != "retriable" or isinstance(v, bool | None)}
    return kept | {"code": code, "message": message}


#: how parts that may be left out should be when they are there
OPTIONAL: dict[str, Callable[[Any], Any]] = {
    "request_id": text_of,
    "inputs": _object,
    "metadata": _object,
    "retry": _retry,
    "tooling": _tools,
    "warnings": lambda value: [text_of(item) for item in _list(value)],
    "errors": _mistakes,
}
