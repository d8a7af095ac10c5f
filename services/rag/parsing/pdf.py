"""Reads a PDF: the text of each page, and its bookmarks as headings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from services.rag.domain.kinds import LONGEST, NeedsOcr, Unreadable, clean
from services.rag.domain.markdown import LONGEST_TITLE
from services.rag.domain.parsed import Heading, Parsed
from services.rag.parsing.outline import on_one_line

MOST_BOOKMARKS = 5_000
LEAST_OF_A_PAGE = 16  # characters on average: below, pages are pictures
HYPHENATED = re.compile("[\x02\xad\ufffe]\n?")  # how pdfium marks a word that goes on in the next line
REASONS = {
    pdfium_c.FPDF_ERR_PASSWORD: "the PDF is encrypted; save it without a password",
    pdfium_c.FPDF_ERR_SECURITY: "the PDF is protected in a way that cannot be read; print it to a new PDF",
    pdfium_c.FPDF_ERR_FORMAT: "the PDF is cut off or damaged; send it again, or print it to a new PDF",
}
DAMAGED = "the PDF cannot be read; print it to a new PDF"


def read_pdf(file: Path) -> Parsed:
    """Raises Unreadable."""
    try:
        document = pdfium.PdfDocument(file)
    except pdfium.PdfiumError as error:
        raise Unreadable(REASONS.get(getattr(error, "err_code", None) or 0, DAMAGED)) from None
    if not len(document):
        raise Unreadable("the PDF has no pages; send one that has")
    text, pages = _text(document)
    if sum(not letter.isspace() for letter in text[: LEAST_OF_A_PAGE * 4 * len(pages)]) < LEAST_OF_A_PAGE * len(pages):
        raise NeedsOcr(
            f"almost no text in {len(pages):,} {'page' if len(pages) == 1 else 'pages'}, which are pictures of it; run the"
            " file through text recognition (OCR) and add the result"
        )
    return Parsed(text, tuple(_headings(document, text, pages)), tuple(pages))


def _text(document: pdfium.PdfDocument) -> tuple[str, list[int]]:
    parts: list[str] = []
    pages: list[int] = []
    at = 0
    for number in range(len(document)):
        pages.append(at)
        parts.append(_page(document, number) + "\n\n")
        at += len(parts[-1])
        if at > LONGEST:
            raise Unreadable(
                f"the first {number + 1:,} of {len(document):,} pages have more than {LONGEST:,} characters; split the file"
            )
    return "".join(parts).rstrip(), pages


def _page(document: pdfium.PdfDocument, number: int) -> str:
    try:
        page = document[number]
        content = page.get_textpage()
        text = content.get_text_bounded()
        content.close()
        page.close()
    except pdfium.PdfiumError:
        return ""  # one page that is damaged is not the document
    return HYPHENATED.sub("", clean(text)).strip()


def _headings(document: pdfium.PdfDocument, text: str, pages: list[int]) -> Iterator[Heading]:
    """Where a page has the words of its bookmark on a line of their own."""
    ends = dict(pairwise([*pages, len(text)]))
    at = 0
    for level, title, page in _bookmarks(document):
        begin = max(at, pages[page])
        if found := _line_of(title).search(text, begin, max(begin, ends[pages[page]])):
            yield Heading(found.start(), found.end(), level, title)
            at = found.end()


def _line_of(title: str) -> re.Pattern[str]:
    """With a number before it, which is short: a page of numbers would be read anew from each of its lines."""
    words = r"\s+".join(re.escape(word) for word in title.split())
    return re.compile(rf"^[\d.\sIVX]{{0,40}}{words}[ \t]*$", re.MULTILINE | re.IGNORECASE)


def _bookmarks(document: pdfium.PdfDocument) -> Iterator[tuple[int, str, int]]:
    for number, mark in enumerate(document.get_toc(max_depth=6)):
        if number == MOST_BOOKMARKS:
            return
        title, destination = on_one_line(clean(mark.get_title())), mark.get_dest()
        page: Any = destination.get_index() if destination else None
        if title and len(title) <= LONGEST_TITLE and page is not None and 0 <= page < len(document):
            yield mark.level + 1, title, page
