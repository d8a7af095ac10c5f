"""What a client has already, takes, and wants only a part of: RFC 9110's conditions, encodings and ranges."""

from __future__ import annotations

import re
from typing import NamedTuple

RANGE = re.compile(r"^bytes=(\d{0,18})-(\d{0,18})$", re.IGNORECASE)
WEIGHT = re.compile(r";\s*q=(0(?:\.0{0,3})?)\s*(?:;|$)", re.IGNORECASE)


class Unsatisfiable(Exception):
    """The range begins behind the end."""


class Part(NamedTuple):
    """Bytes `first` to `last`, both included."""

    first: int
    last: int


def tag(sha256: str, encoding: str | None = None) -> str:
    """A strong one: of these very bytes, as they are sent."""
    return f'"{sha256[:32]}{"-" + encoding if encoding else ""}"'


def is_known(if_none_match: str | None, *tags: str) -> bool:
    if if_none_match is None:
        return False
    known = {item.strip().removeprefix("W/") for item in if_none_match.split(",")}
    return "*" in known or not known.isdisjoint(tags)


def takes_gzip(accept_encoding: str | None) -> bool:
    """Left out means that nothing but the bytes themselves is wanted."""
    for item in (accept_encoding or "").split(","):
        name = item.partition(";")[0].strip().lower()
        if name in ("gzip", "*"):
            return WEIGHT.search(item) is None
    return False


def part(range: str | None, if_range: str | None, current: str, size: int) -> Part | None:
    """None: all of it; several ranges at once are answered so as well. Raises Unsatisfiable."""
    found = RANGE.fullmatch(range.strip()) if range else None
    if found is None or (if_range is not None and if_range.strip() != current):
        return None
    first, last = found.groups()
    if not first and not last:
        return None
    if not first:
        if int(last) == 0 or size == 0:
            raise Unsatisfiable
        return Part(max(0, size - int(last)), size - 1)
    if last and int(last) < int(first):
        return None
    if int(first) >= size:
        raise Unsatisfiable
    return Part(int(first), min(int(last), size - 1) if last else size - 1)
