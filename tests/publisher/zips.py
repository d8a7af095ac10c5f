"""Writes ZIPs byte by byte: every field may lie, which no library allows."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

STORED, DEFLATED = 0, 8
UNIX, DOS = 3, 0
UTF8, FOLLOWS = 1 << 11, 1 << 3
REGULAR = 0o100644 << 16


@dataclass(frozen=True)
class File:
    """As it is in the archive. `local` and `central` change fields of one header only; None: what is true."""

    name: str | bytes
    data: bytes = b"x"
    method: int = DEFLATED
    flags: int = 0
    attributes: int = REGULAR
    system: int = UNIX
    extra: bytes = b""
    comment: bytes = b""
    packed: bytes | None = None
    local: dict[str, Any] = field(default_factory=dict)
    central: dict[str, Any] = field(default_factory=dict)
    descriptor: bytes = b""
    before: bytes = b""  # bytes that lie before its header

    @property
    def raw(self) -> bytes:
        return self.name if isinstance(self.name, bytes) else self.name.encode()

    @property
    def bits(self) -> int:
        return self.flags | (0 if isinstance(self.name, bytes) or self.name.isascii() else UTF8)

    def bytes(self) -> bytes:
        if self.packed is not None:
            return self.packed
        return deflated(self.data) if self.method == DEFLATED else self.data


def deflated(data: bytes, level: int = 6) -> bytes:
    packer = zlib.compressobj(level, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


INDEX = File("index.html", b"<!doctype html><title>ok</title>")


def link(name: str, to: str) -> File:
    return File(name, to.encode(), STORED, attributes=0o120777 << 16)


def folder(name: str) -> File:
    return File(name, b"", STORED, attributes=(0o40755 << 16) | 0x10)


def _fields(file: File) -> dict[str, Any]:
    data = file.bytes()
    return {
        "flags": file.bits,
        "method": file.method,
        "crc": zlib.crc32(file.data),
        "packed": len(data),
        "size": len(file.data),
        "name": file.raw,
        "extra": file.extra,
    }


def local_header(file: File) -> bytes:
    f = _fields(file) | file.local
    fixed = (20, f["flags"], f["method"], 0, 33, f["crc"], f["packed"], f["size"], len(f["name"]), len(f["extra"]))
    return struct.pack("<4s5H3I2H", f.get("magic", b"PK\x03\x04"), *fixed) + f["name"] + f["extra"]


def central_header(file: File, offset: int) -> bytes:
    f = _fields(file) | {"offset": offset, "disk": 0, "comment": file.comment} | file.central
    sizes = (f["crc"], f["packed"], f["size"], len(f["name"]), len(f["extra"]), len(f["comment"]))
    fixed = (
        (file.system << 8) | 20,
        20,
        f["flags"],
        f["method"],
        0,
        33,
        *sizes,
        f["disk"],
        0,
        file.attributes,
        f["offset"],
    )
    packed = struct.pack("<4s6H3I5H2I", f.get("magic", b"PK\x01\x02"), *fixed)
    return packed + f["name"] + f["extra"] + f["comment"]


def end(entries: int, size: int, at: int, comment: bytes = b"", **fields: Any) -> bytes:
    f = {"disk": 0, "first_disk": 0, "here": entries, "count": entries, "length": size, "begin": at} | fields
    said = f.get("comment_length", len(comment))
    fixed = (f["disk"], f["first_disk"], f["here"], f["count"], f["length"], f["begin"], said)
    return struct.pack("<4s4H2IH", b"PK\x05\x06", *fixed) + comment


def make(*files: File, prefix: bytes = b"", gap: bytes = b"", comment: bytes = b"", **ending: Any) -> bytes:
    """An archive of these. `ending` changes fields of the record at its end."""
    body, directory = bytearray(prefix), bytearray()
    for file in files:
        body += file.before
        directory += central_header(file, len(body))
        body += local_header(file) + file.bytes() + file.descriptor
    body += gap
    return bytes(body + directory + end(len(files), len(directory), len(body), comment, **ending))


def with_index(*files: File, **ending: Any) -> bytes:
    return make(INDEX, *files, **ending)
