"""What is an account of money, and what waits for it?"""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from contracts.budgets import Shortage
from contracts.scope import Scope

BUDGET = "budget"  # the reason to be paused

Account = tuple[Scope, str]


class Wait(NamedTuple):
    """A node that is paused with this turn, because a budget does not bear its next call."""

    node_id: UUID
    run_id: UUID
    company: str
    shortage: Shortage
