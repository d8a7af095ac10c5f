"""The order of a page, as SQL."""

from __future__ import annotations

from collections.abc import Mapping

from services.planner.domain.ordering import ordering


def order(order_by: str | None, columns: Mapping[str, str], default: str, tie: str) -> str:
    """Only our own column names get into the statement. The tie-breaker keeps pages apart."""
    field, descending = ordering(order_by, columns.keys(), default)
    return f"{columns[field]} {'desc' if descending else 'asc'} nulls last, {tie}"
