"""Keeps something drawn in place on a terminal while the event loop goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rich.console import Console, RenderableType
from rich.live import Live

REFRESH_SECONDS = 0.125


@asynccontextmanager
async def redrawn(screen: Console, what: RenderableType) -> AsyncIterator[Live]:
    """Drawn by the event loop, not by a thread of rich's: what it shows changes in the loop."""
    with Live(what, console=screen, auto_refresh=False, transient=True) as live:

        async def refresh() -> None:
            while True:
                live.refresh()
                await asyncio.sleep(REFRESH_SECONDS)

        refreshing = asyncio.create_task(refresh())
        try:
            yield live
        finally:
            refreshing.cancel()
            await asyncio.gather(refreshing, return_exceptions=True)
