"""The reading process as its parent sees it: a document goes in, and its text comes out or why there is none."""

from __future__ import annotations

import asyncio
from pathlib import Path

from chassis.confined import OverLimit, ask, isolated
from chassis.confined_worker import Limit
from services.rag.domain.kinds import LONGEST, Kind, NeedsOcr, Unreadable, check_text, decoded
from services.rag.domain.markdown import parse_markdown
from services.rag.domain.parsed import Parsed

WORKER = Path(__file__).resolve().parents[1] / "parsing" / "__main__.py"
COMMAND = isolated(WORKER)
AT_ONCE = 2  # documents, each of which may take a gigabyte
TIMEOUT = 100.0  # seconds; it ends itself before
OVER = {
    Limit.TIME: "reading the document takes too long; split it, or save it as plain text",
    Limit.MEMORY: "reading the document takes more memory than it may; split it",
    Limit.SIZE: "the document has more text than is taken of one; split it",
}
PLAIN = (Kind.TEXT, Kind.MARKDOWN)
MOST_OF_A_CHARACTER = 4  # bytes, in any encoding that is known here


class Parser:
    """`timeout` in seconds."""

    def __init__(self, timeout: float = TIMEOUT) -> None:
        self._timeout = timeout
        self._places = asyncio.Semaphore(AT_ONCE)

    async def parse(self, file: Path, kind: Kind, room: Path) -> Parsed:
        """`room` is an empty directory. Raises Unreadable, RetryLater when there is no room, or WorkerDied."""
        if kind in PLAIN:
            async with self._places:
                return await asyncio.to_thread(_read_plain, file, kind)
        into = room / "text.json"
        async with self._places:
            await self._read(file, kind, into)
        return await asyncio.to_thread(lambda: Parsed.of_json(into.read_bytes()))

    async def _read(self, file: Path, kind: Kind, into: Path) -> None:
        try:
            answer = await ask((*COMMAND, str(file), kind, str(into)), into.parent, self._timeout)
        except OverLimit as over:
            raise Unreadable(OVER[over.limit]) from None
        if "needs_ocr" in answer:
            raise NeedsOcr(answer["needs_ocr"])
        if "error" in answer:
            raise Unreadable(answer["error"])


def read_plain(data: bytes, kind: Kind) -> Parsed:
    """Nothing in a text can harm who decodes it. Raises Unreadable."""
    text = decoded(data)
    check_text(text)
    return parse_markdown(text) if kind is Kind.MARKDOWN else Parsed(text)


def _read_plain(file: Path, kind: Kind) -> Parsed:
    if (size := file.stat().st_size) > LONGEST * MOST_OF_A_CHARACTER:
        raise Unreadable(f"the text has {size:,} bytes, and may have {LONGEST:,} characters; split it")
    return read_plain(file.read_bytes(), kind)
