"""Reads a web page: its headings, paragraphs, lists, tables and code; not its navigation, scripts and forms."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from selectolax.lexbor import LexborHTMLParser

from services.rag.domain.parsed import Parsed
from services.rag.parsing.outline import Outline, on_one_line

LEFT_OUT = (
    "script,style,noscript,template,svg,canvas,iframe,object,nav,footer,aside,form,button,select,dialog,head,"
    "[hidden],[aria-hidden=true],[role=navigation],[role=banner],[role=contentinfo]"
)
HEADINGS = {f"h{level}": level for level in range(1, 7)}
BLOCKS = frozenset(
    re.findall(
        r"\w+",
        "address article blockquote body caption center dd details div dl dt fieldset figcaption figure header hr html li"
        " main ol p pre section summary table tbody tfoot thead tr ul h1 h2 h3 h4 h5 h6",
    )
)
CELLS = ("td", "th")
ITEM, ROW = "- ", " | "
MOST_OF_IT = 0.5  # of the page's text that its <main> or <article> has to hold to be taken for the page


def read_html(text: str) -> Parsed:
    page = LexborHTMLParser(text)
    title = page.css_first("title")
    named = on_one_line(title.text()) if title else ""
    page.strip_tags(LEFT_OUT.split(","), recursive=True)
    writer = _Writer()
    root = _root(page)
    if root is not None:
        if named and page.css_first("h1") is None:
            writer.outline.block(named, 1)
        for event, node in _walk(root):
            writer.take(event, node)
        writer.flush()
    return writer.outline.parsed()


def _root(page: LexborHTMLParser) -> Any:
    body = page.body
    if body is None:
        return None
    whole = len(body.text())
    inner = next((node for node in page.css("main, article") if len(node.text()) >= whole * MOST_OF_IT), None)
    return body if inner is None else inner


def _walk(root: Any) -> Iterator[tuple[str, Any]]:
    """Each node as it opens and closes; without recursion, since pages can be nested as deep as they like."""
    stack: list[tuple[str, Any]] = [("open", root)]
    while stack:
        event, node = stack.pop()
        yield event, node
        if event == "open" and node.tag != "-text":
            stack.append(("close", node))
            stack += [("open", child) for child in reversed(list(node.iter(include_text=True)))]


class _Writer:
    """Gathers the text of a block, and hands it on when the block ends."""

    def __init__(self) -> None:
        self.outline = Outline()
        self._gathered: list[str] = []
        self._level = 0
        self._pre = 0
        self._prefix = ""
        self._before = ""  # what kind of block the one before was

    def take(self, event: str, node: Any) -> None:
        tag = node.tag
        if tag == "-text":
            self._gathered.append(node.text(deep=False))
        elif tag == "br":
            self._gathered.append("\n" if self._pre else " ")
        elif tag in CELLS and event == "close":
            self._gathered.append(ROW)
        elif tag in BLOCKS:
            self.flush()
            self._turn(event, tag)

    def _turn(self, event: str, tag: str) -> None:
        opens = event == "open"
        if tag in HEADINGS:
            self._level = HEADINGS[tag] if opens else 0
        elif tag == "pre":
            self._pre += 1 if opens else -1
        elif tag == "li":
            self._prefix = ITEM if opens else ""
        elif tag in ("ul", "ol", "table"):
            self._before = ""

    def flush(self) -> None:
        text = "".join(self._gathered)
        self._gathered.clear()
        text = text.strip("\n") if self._pre else on_one_line(text).removesuffix("|").rstrip()
        if not text.strip():
            return
        kind = self._prefix or (ROW if text.count(ROW) else "")
        self.outline.block(self._prefix + text, self._level, tight=bool(kind) and kind == self._before)
        self._prefix, self._before = "", kind
