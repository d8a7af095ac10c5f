"""Documents as people send them, made by hand: good ones, and those that are not what they seem."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from xml.sax.saxutils import escape

WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
TYPES = """<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">
<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>
<Default Extension="xml" ContentType="application/xml"/><Override PartName="/word/document.xml"
ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>"""
RELATIONS = """<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">
<Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"
Target="word/document.xml"/></Relationships>"""
STYLES = f"""<?xml version="1.0"?><w:styles xmlns:w="{WORD}"><w:style w:type="paragraph" w:styleId="Heading1">
<w:name w:val="heading 1"/></w:style></w:styles>"""


def pdf(pages: Sequence[str], *, bookmarks: Sequence[tuple[str, int]] = (), encrypted: bool = False) -> bytes:
    """Lines of text on pages; `bookmarks` with the page they lead to, counted from 0."""
    objects: list[bytes] = [
        b"",
        b"",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    numbers = []
    for text in pages:
        lines = b"".join(b"(%s) Tj 0 -14 Td " % _escaped(line) for line in text.split("\n"))
        content = b"BT /F1 11 Tf 60 760 Td " + lines + b"ET" if text else b""
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content))
        numbers.append(len(objects) + 1)
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R >> >>"
            b" /Contents %d 0 R >>" % len(objects)
        )
    kids = b" ".join(b"%d 0 R" % number for number in numbers)
    objects[1] = b"<< /Type /Pages /Count %d /Kids [%s] >>" % (len(pages), kids)
    outline = _outline(objects, numbers, bookmarks) if bookmarks else b""
    objects[0] = b"<< /Type /Catalog /Pages 2 0 R%s >>" % outline
    trailer = b""
    if encrypted:
        objects.append(b"<< /Filter /Standard /V 1 /R 2 /P -4 /O <%s> /U <%s> >>" % (b"61" * 32, b"62" * 32))
        trailer = b" /Encrypt %d 0 R /ID [<%s> <%s>]" % (len(objects), b"63" * 16, b"63" * 16)
    return _file(objects, trailer)


def _escaped(line: str) -> bytes:
    data = line.encode("cp1252")
    return data.replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")


def _outline(objects: list[bytes], pages: Sequence[int], bookmarks: Sequence[tuple[str, int]]) -> bytes:
    root = len(objects) + 1
    first, last = root + 1, root + len(bookmarks)
    objects.append(b"<< /Type /Outlines /First %d 0 R /Last %d 0 R /Count %d >>" % (first, last, len(bookmarks)))
    for at, (title, page) in enumerate(bookmarks):
        following = b" /Next %d 0 R" % (first + at + 1) if first + at < last else b""
        objects.append(
            b"<< /Title (%s) /Parent %d 0 R /Dest [%d 0 R /Fit]%s >>" % (_escaped(title), root, pages[page], following)
        )
    return b" /Outlines %d 0 R" % root


def _file(objects: Sequence[bytes], trailer: bytes) -> bytes:
    out, offsets = bytearray(b"%PDF-1.4\n"), []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    begin = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n%s" % (len(objects) + 1, table)
    out += b"trailer << /Size %d /Root 1 0 R%s >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, trailer, begin)
    return bytes(out)


def docx(paragraphs: Sequence[str], *, headings: Sequence[str] = (), extra: dict[str, bytes] | None = None) -> bytes:
    """Those of the paragraphs that are `headings` have the style of one."""
    body = "".join(_paragraph(text, text in headings) for text in paragraphs)
    return archive(
        {
            "[Content_Types].xml": TYPES.encode(),
            "_rels/.rels": RELATIONS.encode(),
            "word/document.xml": _document(body),
            "word/styles.xml": STYLES.encode(),
        }
        | (extra or {})
    )


def _document(body: str, declared: str = "") -> bytes:
    head = f'<?xml version="1.0"?>{declared}<w:document xmlns:w="{WORD}">'
    return f"{head}<w:body>{body}</w:body></w:document>".encode()


def _paragraph(text: str, is_heading: bool) -> str:
    style = '<w:pPr><w:pStyle w:val="Heading1"/></w:pPr>' if is_heading else ""
    return f"<w:p>{style}<w:r><w:t>{escape(text)}</w:t></w:r></w:p>"


def archive(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in files.items():
            made.writestr(name, data)
    return out.getvalue()


def entity_bomb() -> bytes:
    """A billion laughs in a document's body."""
    entities = '<!ENTITY a0 "ha">' + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
    body = _document("<w:p><w:r><w:t>&a9;</w:t></w:r></w:p>", f"<!DOCTYPE d [{entities}]>")
    return docx([], extra={"word/document.xml": body})
