"""Which files of a ZIP are unpacked, or why none of them is: judged as a whole before a byte is unpacked."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from typing import BinaryIO, NamedTuple

from services.publisher.domain.paths import clash, flaw
from services.publisher.unpacking.directory import MIB, Directory, Listed, Refused, data_begin, read_directory, shown

LARGEST_FILE = 25 * MIB
LARGEST_SITE = 200 * MIB
MOST_RATIO = 100  # unpacked to packed
FREE_OF_RATIO = 1 * MIB  # what is unpacked to less than this harms nobody

ENCRYPTED, PATCH, STRONGLY, MASKED = 1, 1 << 5, 1 << 6, 1 << 13
STORED, DEFLATED, AES = 0, 8, 99
METHODS = {1: "shrink", 6: "implode", 9: "deflate64", 12: "bzip2", 14: "LZMA", 93: "zstd", 95: "xz", 98: "PPMd"}
DOS_FOLDER, DOS_DEVICE, DOS_REPARSE = 0x10, 0x40, 0x400
KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class Entry(NamedTuple):
    """A file. Its packed bytes begin at `begin`."""

    path: str
    is_packed: bool
    crc: int
    packed: int
    size: int
    begin: int


def read_archive(file: BinaryIO) -> list[Entry]:
    """The files to unpack. Raises Refused."""
    directory = read_directory(file)
    for one in directory.listed:
        _check(one)
    wanted = [one for one in directory.listed if not _is_left_out(one)]
    _check_names(wanted)
    _check_sum(directory.listed)
    begins = _begins(file, directory)
    return [
        Entry(one.name, one.method == DEFLATED, one.crc, one.packed, one.size, begins[one.header])
        for one in wanted
        if not one.is_folder
    ]


def _is_left_out(one: Listed) -> bool:
    """What macOS adds to archives."""
    segments = one.name.split("/")
    return ".." not in segments and (segments[0] == "__MACOSX" or segments[-1] == ".DS_Store")


def _check(one: Listed) -> None:
    name = shown(one.name)
    if one.flags & (ENCRYPTED | STRONGLY | MASKED) or one.method == AES:
        raise Refused(f"{name} is encrypted; pack the folder without a password")
    if one.flags & PATCH or one.method not in (STORED, DEFLATED):
        method = METHODS.get(one.method, f"method {one.method}")
        raise Refused(f"{name} is compressed with {method}; pack the folder with the usual deflate")
    _check_kind(one, name)
    if one.size > LARGEST_FILE:
        raise Refused(
            f"{name} has {one.size:,} bytes, and a file may have {LARGEST_FILE:,} (25 MiB); make it smaller, or link it"
        )
    if one.method == STORED and one.packed != one.size:
        raise Refused(f"{name} is not compressed and has two sizes; pack the folder anew")
    if one.size > max(FREE_OF_RATIO, one.packed * MOST_RATIO):
        raise Refused(f"{name} would grow more than {MOST_RATIO} times; an archive like this is not unpacked")


def _check_kind(one: Listed, name: str) -> None:
    kind = stat.S_IFMT(one.attributes >> 16)
    if kind in KINDS or one.attributes & (DOS_DEVICE | DOS_REPARSE):
        raise Refused(f"{name} is {KINDS.get(kind, 'a link or a device')}; put the file itself into the archive")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise Refused(f"{name} is neither a file nor a folder; leave it out")
    says_folder = kind == stat.S_IFDIR or bool(one.attributes & DOS_FOLDER)
    if (says_folder and not one.is_folder) or (one.is_folder and (kind == stat.S_IFREG or one.size)):
        raise Refused(f"{name} is a file and a folder at once; pack the folder anew")


def _check_names(wanted: Sequence[Listed]) -> None:
    for one in wanted:
        if wrong := flaw(one.name[:-1] if one.is_folder else one.name):
            raise Refused(f"{shown(one.name)} {wrong}")
    folders = [one.name[:-1] for one in wanted if one.is_folder]
    if twice := next((folder for n, folder in enumerate(folders) if folder in folders[:n]), None):
        _refuse_both(f"{twice}/", f"{twice}/")
    paths = [one.name for one in wanted if not one.is_folder]
    if both := clash(paths):
        _refuse_both(*both)
    files = {path.casefold(): path for path in paths}
    if both_kinds := next((f for f in folders if f.casefold() in files), None):
        _refuse_both(files[both_kinds.casefold()], f"{both_kinds}/")


def _refuse_both(one: str, other: str) -> None:
    if one == other:
        raise Refused(f"{shown(one)} is in the archive twice; pack the folder anew")
    if one.casefold() == other.casefold():
        raise Refused(f"{shown(one)} and {shown(other)} differ in case only; rename one of them")
    raise Refused(f"{shown(one)} is a file, and a folder in {shown(other)}; rename one of them")


def _check_sum(listed: Sequence[Listed]) -> None:
    size, packed = sum(one.size for one in listed), sum(one.packed for one in listed)
    if size > LARGEST_SITE:
        raise Refused(
            f"the files have {size:,} bytes together, and may have {LARGEST_SITE:,} (200 MiB); leave large files out"
        )
    if size > max(FREE_OF_RATIO, packed * MOST_RATIO):
        raise Refused(f"the archive would grow more than {MOST_RATIO} times; an archive like this is not unpacked")


def _begins(file: BinaryIO, directory: Directory) -> dict[int, int]:
    """Where packed bytes begin, by header: in order, without overlaps, and from the first byte on."""
    begins: dict[int, int] = {}
    taken = 0
    for one in sorted(directory.listed, key=lambda one: one.header):
        if one.header < taken:
            raise Refused(
                f"{shown(one.name)} shares its bytes with another entry; an archive like this is not unpacked"
            )
        if not begins and one.header:
            raise Refused("something lies before the archive's first file; pack the folder anew")
        begins[one.header] = data_begin(file, one)
        taken = begins[one.header] + one.packed
        if taken > directory.begin:
            raise Refused(f"{shown(one.name)} reaches into the archive's directory; pack the folder anew")
    return begins
