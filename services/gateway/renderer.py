"""The rendering process as its parent sees it: a document goes in, and the body of a page comes out."""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

from chassis.confined import Filter, OverLimit, WorkerDied
from contracts.errors import Code, Rejection
from services.gateway.domain.pages import body

log = structlog.get_logger(__name__)

WORKER = Path(__file__).resolve().parent / "rendering" / "__main__.py"
SHORT = 4 * 2**10  # characters of a text that is read here: however it grows, it becomes no more than a megabyte


class Renderer:
    """Some texts grow with the square of their length: a link's address that is used ten thousand times, tags that are
    never closed and have to be opened anew in each paragraph."""

    def __init__(self) -> None:
        self._apart = Filter(WORKER)

    async def body(self, name: str, text: str, content_type: str) -> str:
        """Raises Rejection(too_large) for what does not end, or grows without end."""
        if len(text) <= SHORT:
            return await asyncio.to_thread(body, text, content_type)
        try:
            answer = await self._apart.ask(text.encode("utf-8", "replace"), content_type)
        except (OverLimit, WorkerDied) as why:
            log.warning("page.not_rendered", name=name, characters=len(text), reason=str(why))
            raise Rejection(Code.TOO_LARGE, f"{name} grows beyond what a page may have; download it") from None
        made: str = answer["body"]
        return made
