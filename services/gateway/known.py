"""Is there such a run? The timeline may know it, and so can answer while its owner is away."""

from __future__ import annotations

from uuid import UUID

from contracts.executor import GetRun
from services.gateway.asking import Desk
from services.gateway.store import Feed


async def refuse_unknown_run(desk: Desk, feed: Feed, company: str, run_id: UUID) -> None:
    """Raises what the executor says of a run that the timeline has not heard of (yet)."""
    if not await feed.knows(company, run_id):
        await desk.ask(GetRun(run_id=run_id, include_nodes=False))
