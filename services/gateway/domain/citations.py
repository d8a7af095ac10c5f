"""Which passages does a text cite? `[2]`, `[2, 5]` and `[2-4]` name them by number; links and code name none."""

from __future__ import annotations

import re

CITED = re.compile(r"\[([1-9]\d{0,3}(?:\s*(?:[,;]|-|\u2013)\s*[1-9]\d{0,3})*)\](?!\()")
#: code, and links that name their address by a number; from each bracket only as far as the next one
OTHER = re.compile(r"(?ms)^ {0,3}(`{3,}|~{3,}).*?(?:^ {0,3}\1|\Z)|`[^`\n]+`|\[[^\[\]\d][^\[\]]*\]\[\d+\]")
RANGE = re.compile(r"(\d+)\s*[-\u2013]\s*(\d+)")
LONGEST_RANGE = 50


def numbers(text: str) -> list[int]:
    """In rising order, each once."""
    found = set[int]()
    for cited in CITED.findall(OTHER.sub("", text)):
        for part in re.split(r"[,;]", cited):
            span = RANGE.fullmatch(part.strip())
            first, last = (int(span[1]), int(span[2])) if span else (int(re.findall(r"\d+", part)[0]),) * 2
            found.update(range(first, min(last, first + LONGEST_RANGE) + 1))
    return sorted(found)
