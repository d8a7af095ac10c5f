"""The rendering process as its parent sees it: a document goes in, and the body of a page comes out."""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

from chassis.confined import OverLimit, WorkerDied, ask, isolated
from contracts.errors import Code, Rejection
from services.gateway.domain.pages import body

log = structlog.get_logger(__name__)

WORKER = Path(__file__).resolve().parent / "rendering" / "__main__.py"
COMMAND = isolated(WORKER)
NOWHERE = Path("/")  # it writes no file
TIMEOUT = 20.0  # seconds; it ends itself before
AT_ONCE = 2  # each may take half a gigabyte
SHORT = 4 * 2**10  # characters of a text that is read here: however it grows, it becomes no more than a megabyte


class Renderer:
    """Some texts grow with the square of their length: a link's address that is used ten thousand times, tags that are
    never closed and have to be opened anew in each paragraph."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(AT_ONCE)

    async def body(self, name: str, text: str, content_type: str) -> str:
        """Raises Rejection(too_large) for what does not end, or grows without end."""
        if len(text) <= SHORT:
            return await asyncio.to_thread(body, text, content_type)
        try:
            async with self._places:
                answer = await ask((*COMMAND, content_type), NOWHERE, TIMEOUT, text.encode("utf-8", "replace"))
        except (OverLimit, WorkerDied) as why:  # memory that a library asks for in vain ends the process
            log.warning("page.not_rendered", name=name, characters=len(text), reason=str(why))
            raise Rejection(Code.TOO_LARGE, f"{name} grows beyond what a page may have; download it") from None
        made: str = answer["body"]
        return made
