"""Whose a budget or a policy is."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from contracts.plan import Name

ScopeId = Annotated[Name, Field(min_length=1)]


class Scope(StrEnum):
    """The widest first: budgets are reserved in this order; of policies the narrowest that says something counts."""

    COMPANY = "company"
    PROJECT = "project"
    TASK = "task"
    AGENT = "agent"
