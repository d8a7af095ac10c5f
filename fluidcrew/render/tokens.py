"""Tokens of several nodes at once, gathered into lines that belong to one node each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.text import Text

WIDTH = 100


class TokenLines:
    """`add` answers the lines that a piece of text completed; `flush` those that were begun."""

    def __init__(self) -> None:
        self._begun: dict[str, str] = {}

    def add(self, token: Mapping[str, Any]) -> list[Text]:
        key = str(token.get("key") or "?")
        *whole, rest = (self._begun.pop(key, "") + str(token.get("text") or "")).split("\n")
        while len(rest) > WIDTH:
            cut = rest.rfind(" ", 0, WIDTH)
            cut = cut if cut > 0 else WIDTH
            whole, rest = [*whole, rest[:cut]], rest[cut:].lstrip(" ")
        if rest:
            self._begun[key] = rest
        return [_line(key, text) for text in whole if text.strip()]

    def flush(self) -> list[Text]:
        begun, self._begun = self._begun, {}
        return [_line(key, text) for key, text in begun.items() if text.strip()]


def _line(key: str, text: str) -> Text:
    line = Text(f"{key:>16} │ ", style="cyan")
    line.append(text.rstrip(), style="default")
    return line
