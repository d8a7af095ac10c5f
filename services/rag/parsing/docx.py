"""Reads a Word document: its directory is judged before a byte is unpacked, then mammoth makes a page of it."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from services.rag.domain.kinds import MIB, Unreadable
from services.rag.domain.parsed import Parsed
from services.rag.parsing.html import read_html

MOST_ENTRIES = 5_000
LARGEST_PART = 32 * MIB  # of XML, which takes thirty times as much in memory
MOST_RATIO = 200  # unpacked to packed, of what is read
BODY = re.compile(r"word/document\d*\.xml")  # some servers count
OTHERS = {
    "xl/": "a spreadsheet; save the sheet as PDF or text",
    "ppt/": "a presentation; save it as PDF",
    "mimetype": "an OpenDocument or EPUB file; save it as .docx or PDF",
}


def read_docx(file: Path) -> Parsed:
    """Raises Unreadable."""
    import mammoth

    try:
        with zipfile.ZipFile(file) as archive:
            _check(archive.infolist())
        with file.open("rb") as source:
            page = mammoth.convert_to_html(source, convert_image=mammoth.images.img_element(lambda _: {}))
    except zipfile.BadZipFile as error:
        raise Unreadable(f"the document is cut off or damaged ({error}); send it again") from None
    except (KeyError, ValueError, AttributeError, IndexError, TypeError, SyntaxError, OSError, EOFError) as error:
        raise _damaged(error) from error
    except Exception as error:
        if type(error).__module__.startswith(("xml.", "zlib", "pyexpat", "mammoth", "struct")):
            raise _damaged(error) from error
        raise
    return read_html(page.value)


def _damaged(error: Exception) -> Unreadable:
    return Unreadable(f"the Word document cannot be read ({type(error).__name__}); open it in Word and save it anew")


def _check(entries: list[zipfile.ZipInfo]) -> None:
    names = {one.filename for one in entries}
    if not any(map(BODY.fullmatch, names)):
        what = next((what for begin, what in OTHERS.items() if any(name.startswith(begin) for name in names)), None)
        raise Unreadable(f"this is {what}" if what else "this is a ZIP archive; unpack it and add the documents in it")
    if len(entries) > MOST_ENTRIES:
        raise Unreadable(f"the document has {len(entries):,} parts, and may have {MOST_ENTRIES:,}; save it anew")
    for one in entries:
        if one.flag_bits & 1:
            raise Unreadable("the document is encrypted; save it without a password")
        if not one.filename.endswith((".xml", ".rels")):
            continue  # pictures are not unpacked
        if one.file_size > LARGEST_PART or one.file_size > max(MIB, one.compress_size * MOST_RATIO):
            raise Unreadable(
                f"{one.filename[:80]} would grow to {one.file_size:,} bytes; a document like this is not unpacked, split it"
            )
