"""How does an attempt differ from the one before? A unified diff of what they produced, bounded in time and size."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import unified_diff

from contracts.review import Attempt

MOST_OF_ONE = 64 * 1024  # characters of an output, as it is shown
MOST_OF_ALL = 320 * 1024
MOST_LINES = 1_000  # of an output, that are compared: the time it takes grows with their square
LONGEST_LINE = 500
MOST_OF_A_DIFF = 16 * 1024
MOST_OF_ALL_DIFFS = 96 * 1024


def compared(attempts: Sequence[Attempt]) -> list[Attempt]:
    """Oldest first; `output` may be longer than what is shown of it."""
    most = min(MOST_OF_ONE, MOST_OF_ALL // max(1, len(attempts)))
    room = min(MOST_OF_A_DIFF, MOST_OF_ALL_DIFFS // max(1, len(attempts)))
    shown, before = list[Attempt](), None
    for attempt in attempts:
        diff = None
        if attempt.output is not None:
            diff = difference(before, attempt, room) if before is not None else None
            before = attempt
        shown.append(attempt.model_copy(update={"diff": diff, "output": _opening(attempt.output, most)}))
    return shown


def difference(old: Attempt, new: Attempt, room: int = MOST_OF_A_DIFF) -> str:
    """Empty when there is none."""
    if old.output == new.output and old.checksum == new.checksum:
        return ""
    before, after = _lines(old.output or ""), _lines(new.output or "")
    names = (f"attempt {old.number}", f"attempt {new.number}")
    text = "\n".join(unified_diff(before, after, *names, lineterm="", n=2))
    if len(text) > room:
        text = text[:room] + "\n[cut: the rest of the differences is not shown]"
    if any(is_cut(attempt.output or "") for attempt in (old, new)):
        text += f"\n[only the first {MOST_LINES:,} lines, {LONGEST_LINE} characters of each, were compared]"
    return text


def is_cut(text: str) -> bool:
    lines = text.splitlines()
    return len(lines) > MOST_LINES or any(len(line) > LONGEST_LINE for line in lines)


def _lines(text: str) -> list[str]:
    return [line[:LONGEST_LINE] for line in text.splitlines()[:MOST_LINES]]


def _opening(text: str | None, most: int) -> str | None:
    return None if text is None else text[:most]
