"""Reads a ZIP's directory, strictly: what is there once, where it says, and nothing that only some readers would see.

What is judged is what is unpacked: where two readers of an archive differ, one of them is deceived.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

MIB = 2**20
LARGEST_ARCHIVE = 50 * MIB
LARGEST_DIRECTORY = 1 * MIB
MOST_ENTRIES = 2000
LONGEST_SHOWN = 120  # characters of a name in a message

LOCAL, CENTRAL, END, LOCATOR64 = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x07"
END_FIELDS = struct.Struct("<4s4H2IH")
CENTRAL_FIELDS = struct.Struct("<4s6H3I5H2I")
LOCAL_FIELDS = struct.Struct("<4s5H3I2H")
LOCATOR64_SIZE = 20
LONGEST_COMMENT = FULL16 = 0xFFFF
FULL32 = 0xFFFF_FFFF
SIZES_FOLLOW, IS_UTF8 = 1 << 3, 1 << 11
MAY_DIFFER = SIZES_FOLLOW | 0b110  # how well deflate tried, which nobody needs to know
ZIP64_EXTRA = 1

OTHERS = {
    b"\x1f\x8b": "a gzip file",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"\x28\xb5\x2f\xfd": "a zstd file",
    b"MZ": "a program",
    b"%PDF": "a PDF",
    b"<": "HTML or XML",
}


class Refused(Exception):
    """The archive is not unpacked; the message names the entry and what to do."""


class Listed(NamedTuple):
    """A line of the directory. `header` is where its own header begins; sizes are what it claims."""

    name: str
    raw_name: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    attributes: int
    header: int

    @property
    def is_folder(self) -> bool:
        return self.name.endswith("/")


class Directory(NamedTuple):
    begin: int
    listed: list[Listed]


def shown(name: str) -> str:
    text = ascii(name)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…'"


def read_directory(file: BinaryIO) -> Directory:
    """Raises Refused."""
    size = file.seek(0, 2)
    _check_beginning(file, size)
    begin, end, count = _end(file, size)
    file.seek(begin)
    data = file.read(end - begin)
    return Directory(begin, list(_lines(data, count)))


def _check_beginning(file: BinaryIO, size: int) -> None:
    if size == 0:
        raise Refused("the file is empty; send the archive again")
    if size > LARGEST_ARCHIVE:
        raise Refused(
            f"the archive has {size:,} bytes, and may have {LARGEST_ARCHIVE:,} (50 MiB); leave large files out"
        )
    file.seek(0)
    first = file.read(8)
    if other := next((name for magic, name in OTHERS.items() if first.startswith(magic)), None):
        raise Refused(f"this is {other}, and no ZIP archive; pack the folder as a ZIP")
    if not first.startswith((LOCAL, END)):
        raise Refused("this is no ZIP archive: it does not begin like one; pack the folder as a ZIP")


def _end(file: BinaryIO, size: int) -> tuple[int, int, int]:
    """Where the directory begins and ends, and how many lines it should have."""
    file.seek(max(0, size - END_FIELDS.size - LONGEST_COMMENT - LOCATOR64_SIZE))
    tail = file.read()
    at = _only_end(tail)
    _, disk, first_disk, here, count, length, begin, _ = END_FIELDS.unpack_from(tail, at)
    end = size - len(tail) + at
    if tail[max(0, at - LOCATOR64_SIZE) : at].startswith(LOCATOR64) or FULL16 in (here, count) or begin == FULL32:
        raise Refused(
            "the archive is in ZIP64 form, which sites of this size do not need; pack the folder as a plain ZIP"
        )
    if disk or first_disk or here != count:
        raise Refused("the archive is one part of several; pack the folder as one ZIP")
    if count > MOST_ENTRIES:
        raise Refused(
            f"the archive has {count:,} entries, and may have {MOST_ENTRIES:,}; leave out what the site does not need"
        )
    if length > LARGEST_DIRECTORY:
        raise Refused(
            f"the archive's directory has {length:,} bytes, and may have {LARGEST_DIRECTORY:,}; pack the folder anew"
        )
    if begin + length != end:
        raise Refused(
            "the archive's directory is not where it should be: the file is cut off or was changed; pack the folder anew"
        )
    return begin, end, count


def _only_end(tail: bytes) -> int:
    """Where the record is that ends the archive, with the comment that it says it has."""
    found, at = [], tail.find(END)
    while at >= 0:
        rest = len(tail) - at - END_FIELDS.size
        if rest >= 0 and END_FIELDS.unpack_from(tail, at)[-1] == rest:
            found.append(at)
        at = tail.find(END, at + 1)
    if not found:
        raise Refused("the archive's end is missing: it is cut off, or something is appended; send it again")
    if len(found) > 1:
        raise Refused("the archive has two ends, and readers would differ on what is in it; pack the folder anew")
    return found[0]


def _lines(data: bytes, count: int) -> Iterator[Listed]:
    at = 0
    for _ in range(count):
        if len(data) - at < CENTRAL_FIELDS.size or not data.startswith(CENTRAL, at):
            raise Refused(f"the archive's directory claims {count:,} entries and has fewer; pack the folder anew")
        fields = CENTRAL_FIELDS.unpack_from(data, at)
        _, _, _, flags, method, _, _, crc, packed, size, named, extra, comment, disk, _, attributes, header = fields
        raw = data[at + CENTRAL_FIELDS.size : at + CENTRAL_FIELDS.size + named]
        name = _decoded(raw, flags)
        at += CENTRAL_FIELDS.size + named
        _check_extra(name, data[at : at + extra])
        at += extra + comment
        if at > len(data):
            raise Refused("the archive's directory is cut off; send it again")
        if disk:
            raise Refused(f"{shown(name)} lies in another part of the archive; pack the folder as one ZIP")
        yield Listed(name, raw, flags, method, crc, packed, size, attributes, header)
    if at != len(data):
        raise Refused(f"the archive's directory claims {count:,} entries and has more; pack the folder anew")


def _decoded(raw: bytes, flags: int) -> str:
    if not flags & IS_UTF8:
        return raw.decode("cp437")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(
            f"the name {shown(raw.decode('latin-1'))} is not the UTF-8 it claims to be; rename the file"
        ) from None


def _check_extra(name: str, data: bytes) -> None:
    """Some writers pad with zeros: what is shorter than a header says nothing."""
    at = 0
    while at + 4 <= len(data):
        kind, length = struct.unpack_from("<2H", data, at)
        at += 4 + length
        if kind == ZIP64_EXTRA:
            raise Refused(f"{shown(name)} is in ZIP64 form; pack the folder as a plain ZIP, not through a pipe")
        if at > len(data):
            raise Refused(f"the directory is damaged at {shown(name)}; pack the folder anew")


def data_begin(file: BinaryIO, one: Listed) -> int:
    """Where the packed bytes begin. Raises Refused when the entry's own header tells another story than the directory."""
    file.seek(one.header)
    fixed = file.read(LOCAL_FIELDS.size)
    if len(fixed) < LOCAL_FIELDS.size or not fixed.startswith(LOCAL):
        raise Refused(
            f"{shown(one.name)} is not where the directory says; the archive is damaged: pack the folder anew"
        )
    _, _, flags, method, _, _, crc, packed, size, named, extra = LOCAL_FIELDS.unpack(fixed)
    known = {(one.crc, one.packed, one.size)} | ({(0, 0, 0)} if flags & SIZES_FOLLOW else set())
    told = file.read(named)
    _check_extra(one.name, file.read(extra))
    differs = (flags ^ one.flags) & ~MAY_DIFFER or method != one.method or told != one.raw_name
    if differs or (crc, packed, size) not in known:
        raise Refused(f"{shown(one.name)} is described in two ways that differ; pack the folder anew")
    begin: int = one.header + LOCAL_FIELDS.size + named + extra
    return begin
