"""A PDF of ten pages, made by hand out of texts: what somebody uploads and wants to find."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import cycle, islice

PAGES, LINES, COLUMNS = 10, 48, 88


def pages_of(texts: Sequence[str]) -> list[str]:
    """From the first text on, and from the beginning again."""
    lines = (line for text in cycle(texts) for line in (*textwrap.wrap(text, COLUMNS), ""))
    return ["\n".join(islice(lines, LINES)) for _ in range(PAGES)]


def pdf(pages: Sequence[str]) -> bytes:
    font = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b"", font]
    for page in pages:
        lines = b"".join(b"(%s) Tj 0 -15 Td " % _escaped(line) for line in page.split("\n"))
        content = b"BT /F1 10 Tf 60 780 Td " + lines + b"ET"
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content))
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R >> >>"
            b" /Contents %d 0 R >>" % len(objects)
        )
    kids = b" ".join(b"%d 0 R" % number for number in range(5, len(objects) + 1, 2))
    objects[1] = b"<< /Type /Pages /Count %d /Kids [%s] >>" % (len(pages), kids)
    return _file(objects)


def _escaped(line: str) -> bytes:
    data = line.encode("cp1252", "replace")
    return data.replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")


def _file(objects: Sequence[bytes]) -> bytes:
    out, offsets = bytearray(b"%PDF-1.4\n"), []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table, begin = b"".join(b"%010d 00000 n \n" % offset for offset in offsets), len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n%s" % (len(objects) + 1, table)
    out += b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, begin)
    return bytes(out)
