"""How do words that models and people wrote stand in a Markdown document of ours, without becoming part of its shape?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

#: C0 and C1 but for line feed and tab, and what makes text read in another order than it is written
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
SPECIAL = re.compile(r"([\\`*\[\]<#|~$]|(?<![^\W_])_|_(?![^\W_])|&(?=[#\w]))")
#: renderers make links of these by themselves, escaped or not; in a code span they do not
LIKE_A_LINK = re.compile(r"://|www\.|@|mailto:|xmpp:", re.IGNORECASE)
LIKE_A_BLOCK = re.compile(r"([-+=:>]|\d+(?=[.)]))")
BACKTICKS = re.compile(r"`+")


def inline(text: object, limit: int = 200) -> str:
    """On one line, for a line that has begun already or a table's cell."""
    flat = _flat(text, limit)
    return code(flat, limit) if LIKE_A_LINK.search(flat) else _escaped(flat)


def code(text: object, limit: int = 200) -> str:
    """The same as a code span. A `|` is replaced: in a table it ends the cell, and elsewhere an escape is seen."""
    flat = _flat(text, limit).replace("|", "¦")
    fence = _longer_than(flat, 1)
    return f"{fence} {flat} {fence}" if flat else ""


def _flat(text: object, limit: int) -> str:
    flat = UNSEEN.sub("", " ".join(str(text).split()))
    return flat if len(flat) <= limit else flat[: limit - 1].rstrip() + "…"


def _escaped(flat: str) -> str:
    text = SPECIAL.sub(r"\\\1", flat)
    return LIKE_A_BLOCK.sub(lambda found: _harmless(found[1]), text, count=1) if LIKE_A_BLOCK.match(text) else text


def _harmless(mark: str) -> str:
    """A number keeps its digits: they cannot be escaped, but an entity for the first is read as one."""
    return f"&#{ord(mark[0])};{mark[1:]}" if mark[0].isdigit() else f"\\{mark}"


def block(text: str, limit: int = 4_000) -> str:
    """As it was written, line by line."""
    kept = UNSEEN.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    kept = kept if len(kept) <= limit else kept[:limit] + "\n…"
    fence = _longer_than(kept, 3)
    return f"{fence}text\n{kept}\n{fence}"


def _longer_than(text: str, least: int) -> str:
    return "`" * max([least, *(len(found) + 1 for found in BACKTICKS.findall(text))])


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are inline already; columns are our own words."""
    lines = [_row(columns), _row(["---"] * len(columns))]
    return "\n".join(lines + [_row([cell or "–" for cell in row]) for row in rows])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
