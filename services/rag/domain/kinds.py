"""What a file is, by its first bytes: its name only tells one kind of text from another."""

from __future__ import annotations

import re
from enum import StrEnum

MIB = 2**20
LARGEST = 100 * MIB  # of a file that is read
LONGEST = 5_000_000  # characters of text that a document may have
SHORT = 64 * 2**10  # bytes of a text that is read and cut at once: a process of its own would take longer to start
SAMPLE = 8192  # bytes that decide

# atomic: comments that could be told apart in other ways as well would be tried in all of them, for hours
HTML_BEGINS = re.compile(rb"(?is)\s*+(?><!--.*?-->\s*)*+(<\?xml[^>]*>\s*)?<(!doctype\s+html|html|head|body)\b")
MARKDOWN_NAMES = (".md", ".markdown", ".mdown")
HTML_NAMES = (".html", ".htm", ".xhtml")
BYTE_ORDERS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}
CONTROLS = frozenset(range(32)) - frozenset(
    b"\t\n\r\x0b\x0c\x1b"
)  # a vertical tab is what Word pastes for a line break

IMAGES = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"II*\x00": "a TIFF image",
    b"MM\x00*": "a TIFF image",
    b"BM": "a bitmap image",
}
OTHERS = {
    b"\xd0\xcf\x11\xe0": "an Office file in the old format or with a password; save it as .docx without a password",
    b"{\\rtf": "a rich text file; save it as .docx or PDF",
    b"\x1f\x8b": "a gzip file; unpack it and add what is in it",
    b"7z\xbc\xaf": "a 7z archive; unpack it and add what is in it",
    b"Rar!": "a RAR archive; unpack it and add what is in it",
    b"\x7fELF": "a program; add documents",
    b"MZ": "a program; add documents",
    b"%!PS": "a PostScript file; save it as PDF",
}


class Kind(StrEnum):
    PDF = "pdf"
    DOCX = "docx"
    HTML = "html"
    MARKDOWN = "markdown"
    TEXT = "text"


class Unreadable(Exception):
    """No text can be read from the document; the message says why and what to do."""


class NeedsOcr(Unreadable):
    """It is a picture of text."""


def kind_of(head: bytes, name: str, content_type: str) -> Kind:
    """`head` is the file's first SAMPLE bytes. Raises Unreadable."""
    if not head:
        raise Unreadable("the file is empty; send it again")
    if head.startswith(b"%PDF-") or (b"%PDF-" in head[:1024] and not CONTROLS.isdisjoint(head)):
        return Kind.PDF  # some have a few bytes before it; a text may speak of it
    if head.startswith(b"PK\x03\x04"):
        return Kind.DOCX  # which is for its directory to say
    _check_others(head)
    if HTML_BEGINS.match(head):
        return Kind.HTML
    _check_text(head)
    return _kind_of_text(name.casefold(), content_type.partition(";")[0].strip().casefold())


def _check_others(head: bytes) -> None:
    for magic, what in IMAGES.items():
        if head.startswith(magic) and not CONTROLS.isdisjoint(head):
            raise NeedsOcr(
                f"this is {what}: it holds no text; run it through text recognition (OCR) and add the result"
            )
    for magic, what in OTHERS.items():
        if head.startswith(magic):
            raise Unreadable(f"this is {what}")


def _check_text(head: bytes) -> None:
    if not head.startswith(tuple(BYTE_ORDERS)) and not CONTROLS.isdisjoint(head):
        raise Unreadable("this is no text, PDF, Word document or HTML page; save it as one of them")


def _kind_of_text(name: str, content_type: str) -> Kind:
    if name.endswith(HTML_NAMES) or content_type in ("text/html", "application/xhtml+xml"):
        return Kind.HTML
    if name.endswith(MARKDOWN_NAMES) or content_type in ("text/markdown", "text/x-markdown"):
        return Kind.MARKDOWN
    return Kind.TEXT


def decoded(data: bytes) -> str:
    """Text as it was meant: by its byte order mark, as UTF-8, or as what Windows writes. Raises Unreadable."""
    encoding = next((named for mark, named in BYTE_ORDERS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        if encoding == "utf-16":
            raise Unreadable("the text is cut off or damaged; send it again") from None
        text = data.decode("cp1252", "replace")
    return clean(text)


def clean(text: str) -> str:
    """As the database can hold it, with one kind of line end."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "")
    return text.encode("utf-8", "replace").decode()  # half of a surrogate pair is no character


def check_text(text: str) -> None:
    """Raises Unreadable."""
    if not text.strip():
        raise Unreadable("the document holds no text; send one that does")
    if len(text) > LONGEST:
        raise Unreadable(f"the document has {len(text):,} characters, and may have {LONGEST:,}; split it")
