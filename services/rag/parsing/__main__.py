"""Reads one document: `python -I …/parsing/__main__.py <file> <kind> <into>`; says in JSON what became of it.

{"pages": …} when the text is in <into>, {"error": …} when there is none to be had, {"needs_ocr": …} when it is a picture;
else a word of confined_worker.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[3]))  # isolated: it finds what is installed, and us

from chassis.confined_worker import Limits, answer
from services.rag.domain.kinds import Kind, NeedsOcr, Unreadable, check_text, decoded
from services.rag.domain.markdown import parse_markdown
from services.rag.domain.parsed import Parsed

MIB = 2**20
NICENESS = 5  # questions go first
LIMITS = Limits(memory=1024 * MIB, cpu=60, wall=90, written=64 * MIB, files=32)


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
    def written() -> dict[str, object]:
        try:
            parsed = read(Path(file), Kind(kind))
            check_text(parsed.text)
        except NeedsOcr as error:
            return {"needs_ocr": str(error)}
        except Unreadable as error:
            return {"error": str(error)}
        Path(into).write_bytes(parsed.as_json())
        return {"pages": len(parsed.pages) or None}

    os.nice(NICENESS)
    answer(LIMITS, written)


if __name__ == "__main__":
    main(*sys.argv[1:])
