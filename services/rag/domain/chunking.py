"""Cuts a text into chunks that a model can take whole: along headings, then paragraphs, then sentences, then words.

Chunks are in order, do not overlap, and leave out nothing but white space.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from services.rag.domain.parsed import Heading, Parsed

PARAGRAPH = re.compile(r"\n[ \t]*\n\s*")
SENTENCE = re.compile(r"(?:(?<=[.!?…。！？])|(?<=[.!?…][\"'»”’)\]]))\s+")
LINE = re.compile(r"\n\s*")  # what is blank before it is trimmed: to look for its end at each blank would be quadratic
WORD = re.compile(r"\s+")
SEPARATORS = (PARAGRAPH, SENTENCE, LINE, WORD)
SMALL = 4  # a heading begins no chunk while there is less than a fourth of one
LONGEST_HEADER = 120  # characters
LONGEST_IN_HEADER = 80  # characters of the document's title, or of a heading
AT_ONCE = 100  # texts that are counted together: a tokenizer takes up to a hundred bytes for each character of them
HEADERS = 1_000  # that are remembered: no text makes more of them

#: how many of the model's tokens each of these texts takes, beside those that every text does
Count = Callable[[Sequence[str]], Sequence[int]]


@dataclass(frozen=True, slots=True)
class Window:
    """What a model can take of one text at a time; `most` counts as `count` does."""

    most: int
    count: Count


class Chunk(NamedTuple):
    """`start` to `stop` in characters of the text; `header` are the nearest headings that it is under, not shown with it."""

    start: int
    stop: int
    header: str
    page: int | None


class _Piece(NamedTuple):
    start: int
    stop: int
    path: tuple[str, ...]  # the headings it is under
    begins: bool  # a section
    size: int = 0  # tokens, of one that is not too long anyway

    @property
    def length(self) -> int:
        return self.stop - self.start


def cut(parsed: Parsed, title: str, target: int, window: Window) -> Iterator[Chunk]:
    """`target` in characters: no chunk is longer, and none with its header and the short title is over the window."""
    return _Cutter(parsed, title, target, window).chunks()


def embedded_text(title: str, header: str, body: str) -> str:
    """What the model is given of a chunk: what it is about is said first, and makes it found."""
    about = " > ".join(part for part in (title, header) if part)
    return f"{about}. {body}" if about else body


def short_title(title: str, window: Window) -> str:
    """Of a document, in at most a quarter of the window."""
    return _within(_shortened(" ".join(title.split()), LONGEST_IN_HEADER), window, window.most // 4)


def header_of(title: str, path: Sequence[str], window: Window) -> str:
    """The nearest headings, in at most a quarter of the window."""
    parts = [_shortened(" ".join(part.split()), LONGEST_IN_HEADER) for part in path]
    parts = [part for n, part in enumerate(parts) if part and part != title and part not in parts[:n]]
    while len(parts) > 1 and len(" > ".join(parts)) > LONGEST_HEADER:
        del parts[0]  # what is far above says least
    return _within(" > ".join(parts), window, window.most // 4)


def _within(text: str, window: Window, most: int) -> str:
    while text and window.count([text])[0] > most:
        text = _shortened(text, len(text) // 2)
    return text


class _Cutter:
    def __init__(self, parsed: Parsed, title: str, target: int, window: Window) -> None:
        self._parsed = parsed
        self._text = parsed.text
        self._title = short_title(title, window)
        self._target = target
        self._window = window
        self._headers: dict[tuple[str, ...], tuple[str, int]] = {}

    def chunks(self) -> Iterator[Chunk]:
        paragraphs = self._measured(_paragraphs(self._parsed))
        for group in self._packed(small for one in paragraphs for small in self._small(one, 1)):
            yield from self._certain(group[0].start, group[-1].stop, _shared_by(group))

    def _header(self, path: tuple[str, ...]) -> tuple[str, int]:
        """And how many tokens it leaves to what is under it."""
        if path not in self._headers:
            if len(self._headers) >= HEADERS:
                self._headers.clear()
            header = header_of(self._title, path, self._window)
            taken = self._window.count([embedded_text(self._title, header, "")])[0]
            self._headers[path] = header, self._window.most - taken
        return self._headers[path]

    def _measured(self, pieces: Iterator[_Piece]) -> Iterator[_Piece]:
        while some := list(islice(pieces, AT_ONCE)):
            short = [one for one in some if one.length <= self._target]
            sizes = iter(self._window.count([self._text[one.start : one.stop] for one in short]))
            for start, stop, path, begins, _ in some:
                yield _Piece(start, stop, path, begins, 0 if stop - start > self._target else next(sizes))

    def _small(self, piece: _Piece, level: int) -> Iterator[_Piece]:
        """The piece, or its parts when it is too long: as large as may be."""
        if piece.length <= self._target and piece.size <= self._header(piece.path)[1]:
            yield piece
        elif level < len(SEPARATORS):
            yield from self._parts(piece, _split(self._text, piece.start, piece.stop, SEPARATORS[level]), level + 1)
        elif piece.length > 1:
            middle = (piece.start + piece.stop) // 2
            yield from self._parts(piece, [(piece.start, middle), (middle, piece.stop)], level)
        else:
            yield piece

    def _parts(self, piece: _Piece, spans: Iterable[tuple[int, int]], level: int) -> Iterator[_Piece]:
        trimmed = enumerate(_trimmed(self._text, spans))
        parts = (_Piece(left, right, piece.path, piece.begins and n == 0) for n, (left, right) in trimmed)
        for part in self._measured(parts):
            yield from self._small(part, level)

    def _packed(self, pieces: Iterable[_Piece]) -> Iterator[list[_Piece]]:
        """Neighbours together, while they fit; a section begins a chunk, unless what is before it is too small for one."""
        group, size = list[_Piece](), 0
        for piece in pieces:
            size += piece.size
            if group and (self._is_full(group, piece, size) or self._is_enough(group, piece)):
                yield group
                group, size = [], piece.size
            group.append(piece)
        if group:
            yield group

    def _is_full(self, group: Sequence[_Piece], piece: _Piece, size: int) -> bool:
        """`size` of all of them together."""
        room = self._header(_shared(group[0].path, piece.path))[1]
        return piece.stop - group[0].start > self._target or size > room

    def _is_enough(self, group: Sequence[_Piece], piece: _Piece) -> bool:
        return piece.begins and group[-1].stop - group[0].start >= self._target // SMALL

    def _certain(self, start: int, stop: int, path: tuple[str, ...]) -> Iterator[Chunk]:
        """Tokens of parts need not add up to those of the whole: what is too much after all is halved."""
        header, _ = self._header(path)
        size = self._window.count([embedded_text(self._title, header, self._text[start:stop])])[0]
        if size <= self._window.most or stop - start == 1:
            yield Chunk(start, stop, header, self._parsed.page_at(start))
        else:
            middle = (start + stop) // 2
            for span in _trimmed(self._text, [(start, middle), (middle, stop)]):
                yield from self._certain(*span, path)


def _paragraphs(parsed: Parsed) -> Iterator[_Piece]:
    """A heading goes with what follows it: alone it says nothing."""
    heading: int | None = None
    path: tuple[str, ...] = ()
    for start, body, stop, path in _sections(parsed):
        if body > start and heading is None:
            heading = start
        begins = body > start > 0
        for left, right in _trimmed(parsed.text, _split(parsed.text, body, stop, PARAGRAPH)):
            yield _Piece(left if heading is None else heading, right, path, begins)
            heading, begins = None, False
    if heading is not None:
        yield from (_Piece(*span, path, True) for span in _trimmed(parsed.text, [(heading, len(parsed.text))]))


def _sections(parsed: Parsed) -> Iterator[tuple[int, int, int, tuple[str, ...]]]:
    """From each heading to the next: where it begins, where its text does, where it ends, and the headings it is under."""
    start = body = 0
    above: list[Heading] = []
    for heading in parsed.headings:
        yield start, body, heading.start, tuple(one.title for one in above)
        above = [one for one in above if one.level < heading.level] + [heading]
        start, body = heading.start, heading.stop
    yield start, body, len(parsed.text), tuple(one.title for one in above)


def _shared_by(group: Sequence[_Piece]) -> tuple[str, ...]:
    path = group[0].path
    for piece in group:
        path = _shared(path, piece.path)
    return path


def _shared(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    if one == other:
        return one
    same = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[:same]


def _split(text: str, start: int, stop: int, separator: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    for found in separator.finditer(text, start, stop):
        yield start, found.start()
        start = found.end()
    yield start, stop


def _trimmed(text: str, spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Without white space at their ends; without those that are nothing else."""
    for start, stop in spans:
        body = text[start:stop]
        left = start + len(body) - len(body.lstrip())
        if right := len(body.strip()):
            yield left, left + right


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…" if most > 1 else ""
