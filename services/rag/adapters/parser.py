"""The reading process as its parent sees it: a document goes in, and its text comes out or why there is none."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import NamedTuple

from chassis.confined import OverLimit, ask, isolated
from chassis.confined_worker import Limit
from services.rag.domain.kinds import LONGEST, SHORT, Kind, NeedsOcr, Unreadable, check_text, decoded
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


class Read(NamedTuple):
    """What came of a document: its text at hand when that is little and was all there is to read, else in a file."""

    text: Parsed | Path
    pages: int | None = None


class Parser:
    """`timeout` in seconds."""

    def __init__(self, timeout: float = TIMEOUT) -> None:
        self._timeout = timeout
        self._places = asyncio.Semaphore(AT_ONCE)

    async def parse(self, file: Path, kind: Kind, room: Path) -> Read:
        """`room` is an empty directory. Raises Unreadable, RetryLater when there is no room, or WorkerDied."""
        if kind in PLAIN:
            if (size := (await asyncio.to_thread(file.stat)).st_size) <= SHORT:
                return await asyncio.to_thread(lambda: read_plain(file.read_bytes(), kind))
            if size > LONGEST * MOST_OF_A_CHARACTER:
                raise Unreadable(f"the text has {size:,} bytes, and may have {LONGEST:,} characters; split it")
        into = room / "text.json"
        async with self._places:
            return Read(into, await self._read(file, kind, into))

    async def _read(self, file: Path, kind: Kind, into: Path) -> int | None:
        """How many pages there were."""
        try:
            answer = await ask((*COMMAND, str(file), kind, str(into)), into.parent, self._timeout)
        except OverLimit as over:
            raise Unreadable(OVER[over.limit]) from None
        if "needs_ocr" in answer:
            raise NeedsOcr(answer["needs_ocr"])
        if "error" in answer:
            raise Unreadable(answer["error"])
        pages: int | None = answer["pages"]
        return pages


def read_plain(data: bytes, kind: Kind) -> Read:
    """Nothing in a text can harm who decodes it. Raises Unreadable."""
    text = decoded(data)
    check_text(text)
    return Read(parse_markdown(text) if kind is Kind.MARKDOWN else Parsed(text))
