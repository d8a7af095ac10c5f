"""Text for terminals: what others wrote, without the control characters that would command the reader's terminal."""

from __future__ import annotations

import json
import re
from typing import Any

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # C0 and C1, but for line feed and tab


def printable(text: str) -> str:
    return CONTROL.sub("", text)


def json_text(value: Any, indent: int | None = None) -> str:
    """JSON that people can read; what json.dumps would leave raw of C1 is escaped, and so still there for machines."""
    readable = json.dumps(value, indent=indent, ensure_ascii=False)
    return CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", readable)
