"""Whose strays are looked for: those of every company, for all that one has ever sent may be a stray."""

from __future__ import annotations

from chassis.bus import Bus
from chassis.context import Context
from contracts.task_control import ListCompanies

AT_ONCE = 200


async def every_company(bus: Bus) -> list[str]:
    """Raises RetryLater while the planner is away."""
    found: list[str] = []
    while True:
        page = await bus.ask(ListCompanies(limit=AT_ONCE, offset=len(found), order_by="created_at"), Context())
        found += [company.id for company in page.items]
        if len(page.items) < AT_ONCE:
            return found
