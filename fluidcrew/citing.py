"""What a run's results cite of the company's documents: an extra, for which nobody waits and nothing fails."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from rich.text import Text

from fluidcrew.client import Gateway
from fluidcrew.exits import Halt
from fluidcrew.render.knowledge import citation_lines
from fluidcrew.render.screen import Screen

PATIENCE = 2.0


async def citations(api: Gateway, run_id: str) -> list[Mapping[str, Any]]:
    """None of them while knowledge is away: the run is shown all the same."""
    try:
        async with asyncio.timeout(PATIENCE):
            found = await api.find(f"/runs/{run_id}/citations")
    except (Halt, TimeoutError):
        return []
    return list(found["items"]) if found else []


async def print_citations(api: Gateway, run_id: str, screen: Screen) -> int:
    """How many there are."""
    if found := await citations(api, run_id):
        screen.print(Text("Cites", style="bold"))
        for line in citation_lines(found):
            screen.print(line, soft_wrap=True)
    return len(found)
