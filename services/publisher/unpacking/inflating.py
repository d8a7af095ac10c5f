"""Writes the files of an archive, each named by its sha256: no name from the archive ever names a file here."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from services.publisher.unpacking.archive import Entry
from services.publisher.unpacking.directory import Refused, shown

CHUNK = 64 * 1024
RAW = -15  # zlib's word for deflate without a header


class Written(NamedTuple):
    sha256: str
    size: int


def write(file: BinaryIO, entry: Entry, target: Path) -> Written:
    """Raises Refused when the bytes are not what the directory promises."""
    digest, crc, size, growing = hashlib.sha256(), 0, 0, target / "growing"
    with growing.open("wb") as out:
        for data in _bytes(file, entry):
            size += len(data)
            if size > entry.size:
                raise Refused(
                    f"{shown(entry.path)} holds more than the {entry.size:,} bytes it claims; pack the folder anew"
                )
            digest.update(data)
            crc = zlib.crc32(data, crc)
            out.write(data)
    if size < entry.size:
        raise Refused(f"{shown(entry.path)} holds {size:,} bytes and claims {entry.size:,}; pack the folder anew")
    if crc != entry.crc:
        raise Refused(f"{shown(entry.path)} is damaged: its checksum is wrong; send the archive again")
    growing.rename(target / digest.hexdigest())
    return Written(digest.hexdigest(), size)


def _bytes(file: BinaryIO, entry: Entry) -> Iterator[bytes]:
    file.seek(entry.begin)
    packed = _packed(file, entry)
    return _inflated(packed, entry) if entry.is_packed else packed


def _packed(file: BinaryIO, entry: Entry) -> Iterator[bytes]:
    left = entry.packed
    while left and (data := file.read(min(left, CHUNK))):
        left -= len(data)
        yield data


def _inflated(packed: Iterator[bytes], entry: Entry) -> Iterator[bytes]:
    """In pieces of at most CHUNK, however much a byte of input grows to."""
    inflater, rest = zlib.decompressobj(RAW), b""
    try:
        for data in packed:
            rest = data
            while rest and not inflater.eof:
                yield inflater.decompress(rest, CHUNK)
                rest = inflater.unconsumed_tail
            if inflater.eof:
                break
        while not inflater.eof and (more := inflater.decompress(b"", CHUNK)):
            yield more
    except zlib.error:
        raise Refused(f"{shown(entry.path)} is damaged; send the archive again") from None
    if not inflater.eof:
        raise Refused(f"{shown(entry.path)} is cut off; send the archive again")
    if inflater.unused_data or next(packed, b""):
        raise Refused(f"{shown(entry.path)} has something behind its end; pack the folder anew")
