"""Pages: how lists are asked for and answered."""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import Field

from contracts.message import Request
from contracts.refs import Value

T = TypeVar("T")
A = TypeVar("A", bound=Value)


class Page(Value, Generic[T]):
    """One page of a list. `total` counts what the filters match, not what the page holds."""

    items: list[T]
    total: int


class PageRequest(Request[A], Generic[A]):
    """`order_by` is a field name, with a leading `-` for descending; the owner refuses unknown ones."""

    limit: int = Field(default=50, ge=1, le=200)
    offset: int = Field(default=0, ge=0)
    order_by: str | None = None
