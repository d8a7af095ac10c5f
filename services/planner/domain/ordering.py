"""By which field is a list to be ordered, and is it one of those that may be asked for?"""

from __future__ import annotations

from collections.abc import Collection

from contracts.errors import Code, Rejection


def ordering(order_by: str | None, allowed: Collection[str], default: str) -> tuple[str, bool]:
    """The field, and whether it descends. Raises Rejection naming the allowed ones."""
    asked = order_by or default
    field = asked.removeprefix("-")
    if field not in allowed:
        names = ", ".join(sorted(allowed))
        raise Rejection(
            Code.INVALID,
            f"cannot order by {field[:80]!r}; order_by is one of {names}, with a leading - for descending",
            errors=[f"order_by: must be one of {names}"],
            allowed=sorted(allowed),
        )
    return field, asked.startswith("-")
