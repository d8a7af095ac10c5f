"""A form with one file in it, read as it comes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from python_multipart.multipart import parse_options_header

from services.gateway.problems import Malformed

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MOST_FIELDS, LONGEST_FIELD = 10, 4_000  # beside the file
AROUND = 64 * 1024  # bytes of all that is not the file


class Form:
    """What the parser finds: one file, whose bytes are taken as they come, and short fields."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take
        self._header: tuple[bytearray, bytearray] = bytearray(), bytearray()
        self._headers: dict[str, bytes] = {}
        self._field: bytearray | None = None  # None: the file
        self._fields: dict[str, bytearray] = {}
        self._surrounding = 0
        self.has_file = False
        self.has_ended = False
        self.name: str | None = None
        self.type = ""

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._headers.clear,
            "on_part_data": self._on_data,
            "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers,
            "on_end": self._on_end,
        }

    def passed(self, size: int) -> None:
        """Raises Malformed when what surrounds the file has no end."""
        self._surrounding += size
        if self._surrounding > AROUND:
            raise Malformed("the form holds much beside its file; send the file and short fields", type="form_invalid")

    def texts(self) -> dict[str, str]:
        try:
            return {name: bytes(value).decode() for name, value in self._fields.items()}
        except UnicodeDecodeError:
            raise Malformed("the form's fields must be UTF-8", type="utf8_invalid") from None

    def _on_header_end(self) -> None:
        name, value = self._header
        self._headers[name.decode("latin-1").lower()] = bytes(value)
        self._header = bytearray(), bytearray()

    def _on_headers(self) -> None:
        _, options = parse_options_header(self._headers.get("content-disposition", b""))
        name = options.get(b"name", b"").decode("latin-1")
        if name == "file" or b"filename" in options:
            self._begin_file(options.get(b"filename", b""))
            return
        if len(self._fields) >= MOST_FIELDS:
            raise Malformed(f"the form has more than {MOST_FIELDS} fields", type="form_invalid")
        if name in self._fields:
            raise Malformed(f"the form has the field {name[:50]!r} twice", type="form_invalid")
        self._field = self._fields[name] = bytearray()

    def _begin_file(self, filename: bytes) -> None:
        if self.has_file:
            raise Malformed("the form has several files; send one", type="form_invalid")
        self.has_file, self._field = True, None
        self.name = base_name(_text_of(filename)) or None
        self.type = self._headers.get("content-type", b"").decode("latin-1").partition(";")[0].strip().lower()

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._field is None:
            self._surrounding -= end - start
            self._take(data[start:end])
            return
        self._field += data[start:end]
        if len(self._field) > LONGEST_FIELD:
            raise Malformed(f"a field of the form has more than {LONGEST_FIELD} bytes", type="form_invalid")

    def _on_end(self) -> None:
        self.has_ended = True


def _text_of(filename: bytes) -> str:
    """Browsers send UTF-8, older programs what they like."""
    try:
        return filename.decode()
    except UnicodeDecodeError:
        return filename.decode("latin-1")


def base_name(name: str) -> str:
    """Without the folders of somebody's machine, and on one line."""
    return " ".join(re.split(r"[\\/]", name)[-1].split())[:200]
