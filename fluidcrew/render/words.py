"""How small things are written everywhere: durations, money, counts, ids, states, and their colours."""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal

from chassis.printable import printable

COLOUR = {
    "completed": "green",
    "ready": "green",
    "running": "cyan",
    "reviewing": "magenta",
    "paused": "yellow",
    "queued": "bright_black",
    "draft": "bright_black",
    "skipped": "bright_black",
    "canceled": "yellow",
    "failed": "red",
    "invalid": "red",
}
MARK = {
    "completed": "✓",
    "running": "●",
    "reviewing": "◎",
    "paused": "‖",
    "queued": "·",
    "skipped": "↷",
    "canceled": "⊘",
    "failed": "✗",
}
ASCII_MARK = {
    "completed": "+",
    "running": "*",
    "reviewing": "?",
    "paused": "=",
    "queued": ".",
    "skipped": ">",
    "canceled": "/",
    "failed": "x",
}

MADE_UP = re.compile(r" \(request [0-9a-f]{32}\)")


def colour(status: str) -> str:
    return COLOUR.get(status, "default")


def mark(status: str, *, ascii_only: bool = False) -> str:
    return (ASCII_MARK if ascii_only else MARK).get(status, "?")


def duration(seconds: float | None) -> str:
    """`840 ms`, `3.2 s`, `4 min 05 s`, `2 h 13 min`, `3 d 4 h`."""
    if seconds is None:
        return ""
    if seconds < 0.9995:
        return f"{max(0, round(seconds * 1000))} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def of_ms(milliseconds: int | None) -> str:
    return duration(None if milliseconds is None else milliseconds / 1000)


def money(cost: Decimal | None, estimated: int = 0, unpriced: int = 0) -> str:
    """An unknown price is said to be unknown, never shown as nothing. Of `estimated` calls the cost is a ceiling, and
    `unpriced` ones come on top of it."""
    if cost is None:
        return "cost unknown"
    if cost == 0:
        return "$0"
    shown = f"${cost:.2f}" if cost >= 1 else f"${cost:.4f}" if cost >= Decimal("0.0001") else "<$0.0001"
    return f"{'up to ' if estimated else ''}{shown}{' + unknown' if unpriced else ''}"


def count(number: int, thing: str, things: str = "") -> str:
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"


def size(number: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"


def short_id(id: object) -> str:
    return str(id)[:8]


def clock(at: datetime | None) -> str:
    """In the reader's zone."""
    return at.astimezone().strftime("%H:%M:%S") if at else "        "


def day_and_clock(at: datetime | None) -> str:
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S") if at else ""


def one_line(text: str, limit: int = 160) -> str:
    flat = printable(" ".join(text.split()))
    return flat if len(flat) <= limit else flat[: limit - 1].rstrip() + "…"


def person(by: object) -> str:
    """Who gave an order, without a request id that nobody chose; `--json` has it."""
    return printable(MADE_UP.sub("", str(by)))
