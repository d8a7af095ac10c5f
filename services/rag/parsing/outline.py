"""Text as it is put together of blocks: paragraphs, items and headings, each at the offset where it comes to stand."""

from __future__ import annotations

import re

from services.rag.domain.kinds import LONGEST, Unreadable, clean
from services.rag.domain.markdown import LONGEST_TITLE
from services.rag.domain.parsed import Heading, Parsed

SPACE = re.compile(r"[ \t\n\f\xa0]+")


class Outline:
    """Raises Unreadable when it grows past what a document may have."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._headings: list[Heading] = []
        self._at = 0

    def block(self, text: str, level: int = 0, *, tight: bool = False) -> None:
        """`level` of a heading; `tight` when no blank line is to be before it."""
        text = clean(text)
        if not text.strip():
            return
        if self._parts:
            self._put("\n" if tight else "\n\n")
        start = self._at
        self._put(f"{'#' * level} {text}" if level else text)
        if level:
            self._headings.append(Heading(start, self._at, level, text[:LONGEST_TITLE]))

    def _put(self, text: str) -> None:
        self._parts.append(text)
        self._at += len(text)
        if self._at > LONGEST:
            raise Unreadable(f"the document has more than {LONGEST:,} characters; split it")

    def parsed(self) -> Parsed:
        return Parsed("".join(self._parts), tuple(self._headings))


def on_one_line(text: str) -> str:
    return SPACE.sub(" ", text).strip()
