"""The reading process as its parent sees it: started without rights or secrets, heard once, and always ended."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from pathlib import Path

from contracts.errors import FluidcrewError, RetryLater
from services.rag.domain.kinds import Kind, NeedsOcr, Unreadable, check_text, decoded
from services.rag.domain.markdown import parse_markdown
from services.rag.domain.parsed import Parsed

WORKER = Path(__file__).resolve().parents[1] / "parsing" / "__main__.py"
COMMAND = (sys.executable, "-I", str(WORKER))  # no environment, nothing of the current directory
AT_ONCE = 2  # documents, each of which may take a gigabyte
TIMEOUT = 100.0  # seconds; it ends itself before
NO_ROOM = 10.0  # seconds until a full disk is tried again
TOO_LONG = "reading the document takes too long; split it, or save it as plain text"
PLAIN = (Kind.TEXT, Kind.MARKDOWN)
MOST_SAID = 2000  # characters of what a dying worker said


class ReaderDied(FluidcrewError):
    """It ended without a word about the document, by itself or killed by somebody."""


class Parser:
    """`timeout` in seconds."""

    def __init__(self, timeout: float = TIMEOUT) -> None:
        self._timeout = timeout
        self._places = asyncio.Semaphore(AT_ONCE)

    async def parse(self, file: Path, kind: Kind, room: Path) -> Parsed:
        """`room` is an empty directory. Raises Unreadable, RetryLater when there is no room, or ReaderDied."""
        if kind in PLAIN:
            return await asyncio.to_thread(lambda: read_plain(file.read_bytes(), kind))
        into = room / "text.json"
        async with self._places:
            _judge(*await self._run(file, kind, into))
        return await asyncio.to_thread(lambda: Parsed.of_json(into.read_bytes()))

    async def _run(self, file: Path, kind: Kind, into: Path) -> tuple[int | None, bytes, bytes]:
        process = await asyncio.create_subprocess_exec(
            *COMMAND, str(file), kind, str(into), stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env={}, cwd=into.parent
        )
        try:
            async with asyncio.timeout(self._timeout):
                said, complaint = await process.communicate()
        except TimeoutError:
            raise Unreadable(TOO_LONG) from None
        finally:
            await _end(process)
        return process.returncode, said, complaint


def read_plain(data: bytes, kind: Kind) -> Parsed:
    """Nothing in a text can harm who decodes it. Raises Unreadable."""
    text = decoded(data)
    check_text(text)
    return parse_markdown(text) if kind is Kind.MARKDOWN else Parsed(text)


async def _end(process: Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
        await asyncio.shield(process.wait())


def _judge(status: int | None, said: bytes, complaint: bytes) -> None:
    if status in (-signal.SIGALRM, -signal.SIGXCPU):
        raise Unreadable(TOO_LONG)
    if status != 0:
        last = complaint.decode("utf-8", "replace")[-MOST_SAID:].strip()
        raise ReaderDied(f"the reading process ended with status {status}: {last or 'it said nothing'}")
    answer = json.loads(said)
    if "no_room" in answer:
        raise RetryLater(NO_ROOM, f"a document cannot be read now: {answer['no_room']}")
    if "needs_ocr" in answer:
        raise NeedsOcr(answer["needs_ocr"])
    if "error" in answer:
        raise Unreadable(answer["error"])
