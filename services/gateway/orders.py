"""Reads the orders that people give: which action, and what becomes of calls that are under way."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, TypeVar

from fastapi import Query

from contracts.errors import Code, Rejection
from contracts.executor import ControlMode

E = TypeVar("E", bound=StrEnum)

ModeQuery = Annotated[
    ControlMode | None,
    Query(
        description="of a pause: `finish` lets running calls end, `interrupt` cuts them off and runs them again later"
    ),
]


def known_action(kind: type[E], given: str) -> E:
    """Raises Rejection(bad_request): an unknown action is a 400, as in the predecessor."""
    try:
        return kind(given)
    except ValueError:
        message = f"unknown action {given!r}; use one of {', '.join(kind)}"
        raise Rejection(Code.BAD_REQUEST, message, legal=list(kind)) from None
