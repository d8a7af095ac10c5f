"""Cleans what models write: no NUL, no lone surrogate ever gets past this layer (Postgres and UTF-8 take neither)."""

from __future__ import annotations

from typing import Any

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
MAX_DEPTH = 100  # of JSON; deeper answers are refused before a recursion could overflow


def clean(text: str) -> str:
    """Surrogate pairs are joined, lone surrogates become U+FFFD, NULs go."""
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text.replace("\x00", "") if "\x00" in text else text


def clean_json(value: Any, depth: int = 0) -> Any:
    """The same for every string and key of a decoded JSON document. Raises ValueError when it is nested too deep."""
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [clean_json(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {clean(key): clean_json(item, depth + 1) for key, item in value.items()}
    return value


class StreamCleaner:
    """Cleans a text that comes in pieces: a surrogate pair may be cut in two by the provider."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, piece: str) -> str:
        text, self._held = self._held + piece, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._held = text[:-1], text[-1]
        return clean(text)

    def flush(self) -> str:
        text, self._held = self._held, ""
        return clean(text)
