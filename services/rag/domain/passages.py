"""What is kept of each chunk of a document: where it lies, its words, and what it is found by."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain, pairwise
from typing import NamedTuple

from contracts.knowledge import Language
from services.rag.domain.analysis import Indexed, analyse
from services.rag.domain.chunking import Window, cut
from services.rag.domain.parsed import Parsed

LONGEST_GAP = 200  # characters of blanks; neighbours that are farther apart are not shown as one passage


class Manner(NamedTuple):
    """How a document is cut: into at most `target` characters, of what `provider` can take, and found by its title too."""

    title: str
    language: Language
    target: int
    provider: str

    def as_json(self) -> bytes:
        return json.dumps(self).encode()

    @classmethod
    def of_json(cls, data: bytes) -> Manner:
        title, language, target, provider = json.loads(data)
        return cls(title, Language(language), target, provider)


class Passage(NamedTuple):
    """`gap` is what lies between it and the next; `header` its headings, without the title."""

    start: int
    stop: int
    page: int | None
    header: str | None
    body: str
    gap: str
    indexed: Indexed

    def as_json(self) -> bytes:
        """On one line."""
        found = self.indexed
        known = found.folded, found.lexemes, found.terms, found.weights, found.length
        return json.dumps((*self[:-1], known), ensure_ascii=False).encode("utf-8", "surrogatepass")

    @classmethod
    def of_json(cls, line: bytes) -> Passage:
        start, stop, page, header, body, gap, known = json.loads(line)
        return cls(start, stop, page, header, body, gap, Indexed(*known))


def passages(parsed: Parsed, manner: Manner, window: Window) -> Iterator[Passage]:
    """One at a time: never are all of them in memory."""
    chunks = cut(parsed, manner.title, manner.target, window)
    for chunk, following in pairwise(chain(chunks, [None])):
        assert chunk is not None
        header, body = chunk.header or None, parsed.text[chunk.start : chunk.stop]
        until = chunk.stop if following is None else following.start
        gap = parsed.text[chunk.stop : until] if until - chunk.stop <= LONGEST_GAP else ""
        indexed = analyse(body, header, manner.title, manner.language)
        yield Passage(chunk.start, chunk.stop, chunk.page, header, body, gap, indexed)
