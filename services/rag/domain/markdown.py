"""Where a Markdown text has its headings: `# Title` lines and underlined ones, outside fenced code."""

from __future__ import annotations

import re
from collections.abc import Iterator

from services.rag.domain.parsed import Heading, Parsed

FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
ATX = re.compile(r" {0,3}(#{1,6})[ \t]+(.*)$")
UNDERLINE = re.compile(r" {0,3}(?:(=+)|-{2,})[ \t]*$")
NO_TITLE = re.compile(r" {4}|\t| {0,3}(?:[-*+>|]|\d+[.)])")  # a line of dashes below makes no heading of these
LONGEST_TITLE = 200  # characters


def parse_markdown(text: str) -> Parsed:
    return Parsed(text, tuple(one for one in _headings(text) if one.title))


def _headings(text: str) -> Iterator[Heading]:
    start, fence, above = 0, "", ""
    for line in text.split("\n"):
        stop, paragraph = start + len(line), ""
        if fence:
            fence = "" if line.strip().startswith(fence) else fence
        elif opened := FENCE.match(line):
            fence = opened.group(1)
        elif atx := ATX.match(line):
            yield Heading(start, stop, len(atx.group(1)), _title(atx.group(2).rstrip(" \t#")))
        elif above and (under := UNDERLINE.match(line)) and not NO_TITLE.match(above):
            yield Heading(start - len(above) - 1, stop, 1 if under.group(1) else 2, _title(above))
        else:
            paragraph = line if line.strip() else ""
        start, above = stop + 1, paragraph


def _title(text: str) -> str:
    return text.strip()[:LONGEST_TITLE].rstrip()
