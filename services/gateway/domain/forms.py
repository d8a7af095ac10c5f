"""In which form does somebody want a report, as far as their Accept header says?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum

from contracts.errors import Code, Rejection


class Form(StrEnum):
    """In the order in which we choose where the client does not care."""

    JSON = "application/json"
    MARKDOWN = "text/markdown"


RANGE = re.compile(r"\s*([\w.+!#$&^-]+|\*)/([\w.+!#$&^-]+|\*)\s*((?:;[^,]*)?)\Z")
QUALITY = re.compile(r";\s*q\s*=\s*(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\s*(?:;|\Z)", re.IGNORECASE)


def wanted_form(accept: str | None) -> Form:
    """The most precise range that covers a form says how much it is wanted. Raises Rejection(not_acceptable)."""
    ranges = list(_ranges(accept or ""))
    if not ranges:
        return Form.JSON
    wishes = {form: max((r for r in ranges if _covers(r, form)), key=_precision, default=None) for form in Form}
    best = [(wish[2], _precision(wish), form) for form, wish in wishes.items() if wish is not None and wish[2] > 0]
    if not best:
        offered = ", ".join(Form)
        raise Rejection(Code.NOT_ACCEPTABLE, f"this can be had as {offered}; ask for one of them", offered=list(Form))
    return max(best, key=lambda found: found[:2])[2]  # of equals the first


Range = tuple[str, str, float]


def _ranges(accept: str) -> Iterator[Range]:
    """What cannot be read is left out."""
    for part in accept.split(","):
        if found := RANGE.match(part):
            quality = QUALITY.search(found[3])
            yield found[1].lower(), found[2].lower(), float(quality[1]) if quality else 1.0


def _covers(wanted: Range, form: Form) -> bool:
    kind, name = form.split("/")
    return wanted[0] in (kind, "*") and wanted[1] in (name, "*")


def _precision(wanted: Range) -> int:
    return (wanted[0] != "*") + (wanted[1] != "*")
