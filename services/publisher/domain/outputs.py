"""As what kind of document is a node's result kept? As its params declare, else as it looks; else it is Markdown."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from services.publisher.domain.media import content_type_of, is_text

LONGEST_SUMMARY = 500  # characters
FENCE = re.compile(r"\A\s*```[\w-]*[ \t]*\n(.*)\n[ \t]*```\s*\Z", re.DOTALL)
PAGE = re.compile(r"\A\s*(<!doctype html|<html\b)", re.IGNORECASE)
EXTENSIONS: Mapping[str, str] = {
    "json": "json",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "csv": "csv",
    "html": "html",
    "markdown": "md",
    "md": "md",
    "text": "txt",
    "txt": "txt",
    "plain": "txt",
    "xml": "xml",
    "yaml": "yaml",
    "yml": "yaml",
}


class Document(NamedTuple):
    name: str
    content_type: str
    text: str


def document(key: str, text: str, params: Mapping[str, Any]) -> Document:
    """A fence around all of a declared format is no part of it."""
    declared = _declared(params)
    if declared is not None and (fenced := FENCE.match(text)):
        text = fenced[1]
    name = f"{key}.{declared or _looks_like(text)}"
    return Document(name, content_type_of(name), text)


def _declared(params: Mapping[str, Any]) -> str | None:
    format = params.get("output_format")
    if isinstance(format, str):
        return EXTENSIONS.get(format.strip().lower())
    return "json" if isinstance(params.get("output_schema"), Mapping) else None


def _looks_like(text: str) -> str:
    if PAGE.match(text):
        return "html"
    return "json" if text.lstrip()[:1] in ("{", "[") and _is_json(text) else "md"


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def summary_of(text: str, content_type: str) -> str | None:
    """The beginning of a text; of what is no text nothing."""
    if not is_text(content_type):
        return None
    return text.strip()[:LONGEST_SUMMARY].replace("\0", "\ufffd") or None
