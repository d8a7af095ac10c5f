"""Reads one document: `python -I …/parsing/__main__.py <file> <kind> <into>`; says in JSON what became of it.

{"pages": …} when the text is in <into>, {"error": …} when there is none to be had, {"needs_ocr": …} when it is a picture,
{"no_room": …} on a full disk.
"""

from __future__ import annotations

import errno
import json
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[3]))  # isolated: it finds what is installed, and us

from services.rag.domain.kinds import Kind, NeedsOcr, Unreadable, check_text, decoded
from services.rag.domain.markdown import parse_markdown
from services.rag.domain.parsed import Parsed
from services.rag.parsing import limits


def read(file: Path, kind: Kind) -> Parsed:
    """Raises Unreadable."""
    match kind:
        case Kind.PDF:
            from services.rag.parsing.pdf import read_pdf

            return read_pdf(file)
        case Kind.DOCX:
            from services.rag.parsing.docx import read_docx

            return read_docx(file)
        case Kind.HTML:
            from services.rag.parsing.html import read_html

            return read_html(decoded(file.read_bytes()))
        case Kind.MARKDOWN:
            return parse_markdown(decoded(file.read_bytes()))
        case Kind.TEXT:
            return Parsed(decoded(file.read_bytes()))


def main(file: str, kind: str, into: str) -> None:
    limits.apply()
    said: dict[str, object]
    try:
        parsed = read(Path(file), Kind(kind))
        check_text(parsed.text)
        Path(into).write_bytes(parsed.as_json())
        said = {"pages": len(parsed.pages) or None}
    except NeedsOcr as error:
        said = {"needs_ocr": str(error)}
    except Unreadable as error:
        said = {"error": str(error)}
    except MemoryError:
        said = {"error": "reading the document takes more memory than it may; split it"}
    except OSError as error:
        if error.errno == errno.EFBIG:
            said = {"error": "the document has more text than is taken of one; split it"}
        elif error.errno in (errno.ENOSPC, errno.EDQUOT):
            said = {"no_room": error.strerror}
        else:
            raise
    sys.stdout.write(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
