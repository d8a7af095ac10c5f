"""The order of a page, as SQL."""

from __future__ import annotations

from collections.abc import Mapping

from contracts.errors import Code, Rejection


def order(order_by: str | None, columns: Mapping[str, str], default: str, tie: str) -> str:
    """Only our own column names get into the statement. The tie-breaker keeps pages apart."""
    asked = order_by or default
    column = columns.get(asked.removeprefix("-"))
    if column is None:
        message = f"order_by must be one of {', '.join(sorted(columns))}, with a leading - for descending"
        raise Rejection(Code.INVALID, message, errors=[{"loc": ["order_by"], "msg": message}])
    return f"{column} {'desc' if asked.startswith('-') else 'asc'} nulls last, {tie}"
