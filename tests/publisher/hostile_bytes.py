"""The corpus, second part: archives whose structure lies, that are damaged, or that grow."""

from __future__ import annotations

import gzip
import io
import random
import struct
import tarfile
import zlib
from dataclasses import replace
from functools import cache

from tests.publisher.hostile import CUT, DAMAGED, GROWS, HOSTILE, NO_ZIP, SHARED, TWO_WAYS, beside_the_index, hostile
from tests.publisher.zips import (
    DEFLATED,
    FOLLOWS,
    INDEX,
    STORED,
    File,
    central_header,
    deflated,
    end,
    folder,
    local_header,
    make,
    with_index,
)

__all__ = ["HOSTILE"]  # the whole corpus

GOOD = with_index(File("assets/app.js", b"export default 1\n" * 50), folder("empty/"))
NOISE = random.Random(5).randbytes(200_000)
PADDING = NOISE[:2000]
FILLS = 64 * 1024 - 10  # bytes that deflate only frames: two blocks with 5 bytes each

for name, change in {"one-byte-late": 1, "one-byte-early": -1}.items():
    at = len(make(INDEX)) - 22 - len(central_header(INDEX, 0)) + change
    hostile(f"directory-{name}", r"not where it should be", lambda at=at: make(INDEX, begin=at))  # type: ignore[misc]
hostile("directory-at-the-start", r"not where it should be", lambda: with_index(begin=0))
hostile("directory-behind-the-end", r"not where it should be", lambda: with_index(begin=0xFFFF_FFF0))
hostile("directory-too-short", r"not where it should be", lambda: with_index(length=10))
hostile("directory-longer-than-all", r"not where it should be", lambda: with_index(length=999_999))
hostile("directory-of-four-gigabytes", r"directory has 4,294,967,295 bytes", lambda: with_index(length=0xFFFF_FFFF))
hostile("gap-before-the-end", r"not where it should be", lambda: GOOD[:-22] + b"?" * 8 + GOOD[-22:])
hostile(
    "broken-line-in-the-directory", r"has fewer", lambda: with_index(File("a.js", central={"magic": b"PK\x01\x03"}))
)
beside_the_index(
    r"directory is damaged at",
    extra_field_that_overruns=File("a.js", extra=struct.pack("<2H", 0x5455, 500) + b"1234"),
    extra_field_that_overruns_by_one=File("a.js", extra=struct.pack("<2H", 0x5455, 5) + b"1234"),
)
WHOLE = make(INDEX)
LINE = len(WHOLE) - 22 - len(central_header(INDEX, 0))
for what, at in {"name": 28, "comment": 32}.items():
    hostile(
        f"{what}-that-overruns-the-directory",
        r"is cut off|has fewer|not the UTF-8",
        lambda at=at: WHOLE[: LINE + at] + b"\xff\x7f" + WHOLE[LINE + at + 2 :],  # type: ignore[misc]
    )

hostile("two-ends", r"has two ends", lambda: with_index(comment=end(0, 0, 0)))
hostile("second-archive-in-the-comment", r"has two ends", lambda: with_index(comment=make(File("evil.html"))))
hostile("comment-shorter-than-it-says", r"end is missing", lambda: with_index(comment=b"12345", comment_length=6))
hostile("comment-longer-than-it-says", r"end is missing", lambda: with_index(comment=b"12345", comment_length=4))
hostile("something-appended", r"end is missing", lambda: GOOD + b"\n")
hostile("page-appended", r"end is missing", lambda: GOOD + b"<script>alert(1)</script>")
hostile("two-archives-in-a-row", r"not where it should be|end is missing", lambda: GOOD + GOOD)
hostile("seventy-kilobytes-appended", r"end is missing", lambda: GOOD + bytes(70_000))
for name, prefix in {
    "self-extracting": b"MZ\x90\x00" + bytes(60),
    "script": b"#!/bin/sh\nexit\n",
    "gif": b"GIF89a" + bytes(20),
    "jpeg": b"\xff\xd8\xff\xe0" + bytes(20),
    "pdf": b"%PDF-1.7\n",
    "page": b"<script>alert(1)</script>",
    "zeros": bytes(100),
}.items():
    hostile(f"{name}-before-it", r"no ZIP archive", lambda p=prefix: make(INDEX, prefix=p))  # type: ignore[misc]
hostile("file-before-the-first", r"before the archive's first", lambda: make(INDEX, prefix=local_header(File("evil"))))

for name, at in {
    "after-one-byte": 1,
    "after-the-first-signature": 4,
    "in-the-first-header": 20,
    "in-the-first-file": 45,
    "in-the-middle": len(GOOD) // 2,
    "before-its-directory": len(GOOD) - 22 - 150,
    "before-its-end": len(GOOD) - 22,
    "in-its-end": len(GOOD) - 10,
    "before-its-last-byte": len(GOOD) - 1,
}.items():
    hostile(f"cut-off-{name}", r"end is missing|no ZIP archive", lambda at=at: GOOD[:at])  # type: ignore[misc]
hostile("without-its-beginning", r"no ZIP archive|not where it should be", lambda: GOOD[10:])
hostile("hole-in-the-middle", r"not where it should be", lambda: GOOD[:60] + GOOD[70:])
hostile("empty-file", r"the file is empty", lambda: b"")
hostile("one-byte", NO_ZIP, lambda: b"P")
hostile("only-a-signature", r"end is missing", lambda: b"PK\x03\x04")
hostile("only-an-end-cut-off", r"end is missing", lambda: end(0, 0, 0)[:21])
hostile("text", NO_ZIP, lambda: b"Hello, this is my site.")
hostile("zeros", NO_ZIP, lambda: bytes(1_000_000))
hostile("noise", NO_ZIP, lambda: NOISE)
hostile("html", r"this is HTML", lambda: INDEX.data)
hostile("gzip", r"this is a gzip file", lambda: gzip.compress(INDEX.data))
hostile("bzip2-file", r"this is a bzip2 file", lambda: b"BZh91AY&SY" + NOISE[:50])
hostile("xz-file", r"this is an xz file", lambda: b"\xfd7zXZ\x00" + NOISE[:50])
hostile("zstd-file", r"this is a zstd file", lambda: b"\x28\xb5\x2f\xfd" + NOISE[:50])
hostile("seven-zip", r"this is a 7z archive", lambda: b"7z\xbc\xaf\x27\x1c" + NOISE[:50])
hostile("rar", r"this is a RAR archive", lambda: b"Rar!\x1a\x07\x01\x00" + NOISE[:50])
hostile("program", r"this is a program", lambda: b"MZ" + NOISE[:50])
hostile("portable-document", r"this is a PDF", lambda: b"%PDF-1.7 " + NOISE[:50])
hostile("fifty-mebibytes-and-a-byte", r"52,428,801 bytes", lambda: GOOD + bytes((50 << 20) + 1 - len(GOOD)))


def a_tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        info = tarfile.TarInfo("index.html")
        info.size = len(INDEX.data)
        archive.addfile(info, io.BytesIO(INDEX.data))
    return file.getvalue()


hostile("tar", NO_ZIP, a_tar)

beside_the_index(
    TWO_WAYS,
    other_name=File("a.js", local={"name": b"../evil.js"}),
    other_name_of_the_same_length=File("a.js", local={"name": b"b.js"}),
    other_method=File("a.js", local={"method": STORED}),
    other_checksum=File("a.js", local={"crc": 1}),
    other_size=File("a.js", local={"size": 2}),
    other_packed_size=File("a.js", local={"packed": 999}),
    other_coding_of_its_name=File("a.js", local={"flags": 1 << 11}),
    no_sizes_and_none_announced=File("a.js", local={"crc": 0, "packed": 0, "size": 0}),
    announced_sizes_that_differ=File("a.js", flags=FOLLOWS, local={"crc": 0, "packed": 0, "size": 7}),
)

PAGE = b"All work and no play makes Jack a dull boy. " * 100


def lying(data: bytes = PAGE, method: int = DEFLATED, packed: bytes | None = None, **fields: int) -> File:
    """In both of its headers."""
    return File("evil.html", data, method, packed=packed, local=fields, central=fields)


beside_the_index(
    r"holds more than the",
    claims_less=lying(size=len(PAGE) - 1),
    claims_nothing=lying(size=0),
    claims_a_hundred_bytes_and_holds_twenty_megabytes=lying(packed=deflated(bytes(20_000_000)), size=100),
)
beside_the_index(
    r"holds 4,400 bytes and claims",
    claims_more=lying(size=len(PAGE) + 1),
    claims_much_more=lying(size=5_000),
)
beside_the_index(
    r"checksum is wrong",
    wrong_checksum=lying(crc=0xDEAD_BEEF),
    no_checksum=lying(crc=0),
    other_content=lying(packed=deflated(PAGE.replace(b"dull", b"evil"))),
    other_content_unpacked=lying(PAGE, STORED, PAGE.replace(b"dull", b"evil")),
)
beside_the_index(
    r"has two sizes",
    unpacked_with_two_sizes=lying(PAGE, STORED, size=10),
    unpacked_that_claims_to_grow=lying(PAGE, STORED, size=1_000_000),
)
beside_the_index(
    CUT,
    stream_cut_off=lying(packed=deflated(PAGE)[:-5]),
    stream_cut_off_early=lying(packed=deflated(PAGE)[:20]),
    no_stream_at_all=lying(packed=b""),
    stream_of_one_byte=lying(packed=b"\x4b"),
)
beside_the_index(
    r"something behind its end",
    bytes_behind_the_stream=lying(packed=deflated(PAGE) + b"evil"),
    second_stream_behind_the_first=lying(packed=deflated(PAGE) + deflated(PAGE)),
    bytes_behind_a_stream_that_fills_a_piece=lying(NOISE[:FILLS], packed=deflated(NOISE[:FILLS], 0) + b"evil"),
    much_behind_the_stream=lying(packed=deflated(PAGE) + NOISE),
)
beside_the_index(
    DAMAGED,
    noise_for_a_stream=lying(packed=b"\xff" + NOISE[:500]),
    block_of_no_type=lying(packed=b"\x07" + deflated(PAGE)),
    unpacked_block_with_a_wrong_length=lying(packed=b"\x01\x05\x00\x00\x00hello"),
    reference_to_before_the_beginning=lying(packed=bytes.fromhex("4b04e2")),
    stream_with_a_zlib_header=lying(packed=zlib.compress(PAGE)),
    stream_with_a_gzip_header=lying(packed=gzip.compress(PAGE)),
    flipped_bit_in_the_tables=lying(packed=b"\x05\xff\xff\xff\xff" + deflated(PAGE)),
)

NOWHERE = r"is not where the directory says"
beside_the_index(
    NOWHERE,
    header_behind_the_end=File("a.js", central={"offset": 1_000_000}),
    header_at_four_gigabytes=File("a.js", central={"offset": 0xFFFF_FFFE}),
    header_of_another_kind=File("a.js", local={"magic": b"PK\x01\x02"}),
    header_one_byte_late=File("a.js", b"abc", central={"offset": len(local_header(INDEX) + INDEX.bytes()) + 1}),
)
hostile(
    "file-reaching-into-the-directory",
    r"reaches into",
    lambda: with_index(File("a.js", b"", STORED, **_sizes(90))),
)
hostile(
    "index-reaching-over-all", SHARED, lambda: make(replace(INDEX, method=STORED, **_sizes(200)), File("a.js", PADDING))
)


def _sizes(claimed: int) -> dict[str, dict[str, int]]:
    return {"local": {"size": claimed, "packed": claimed}, "central": {"size": claimed, "packed": claimed}}


def on_one_header(count: int, data: bytes) -> bytes:
    """So many names for the bytes of one file, whose own header has the first of them."""
    file = File("0.html", data)
    body = local_header(file) + file.bytes()
    file = replace(file, packed=file.bytes())
    lines = b"".join(central_header(replace(file, name=f"{n}.html"), 0) for n in range(count))
    return body + lines + end(count, len(lines), len(body))


hostile("two-files-on-one-header", SHARED + "|two ways", lambda: on_one_header(2, PADDING))
hostile("five-hundred-files-on-one-header", r"together|" + SHARED, lambda: on_one_header(500, bytes(999_999)))
hostile(
    "same-header-and-name-twice",
    r"in the archive twice",
    lambda: make(INDEX, replace(INDEX, packed=b"", central={"offset": 0})),
)


def nested(count: int, kernel: bytes) -> bytes:
    """Each file quotes the header of the next one and goes on with its bytes: all share the last one's (Fifield, 2019)."""
    files = [File(f"{count - 1}.html", kernel)]
    for n in reversed(range(count - 1)):
        follower = files[0]
        header = local_header(follower)
        quote = struct.pack("<BHH", 0, len(header), len(header) ^ 0xFFFF) + header
        files.insert(0, File(f"{n}.html", header + follower.data, packed=quote + follower.bytes()))
    body, lines, at = local_header(files[0]) + files[0].bytes(), b"", 0
    for file in files:
        lines += central_header(file, at)
        at += len(local_header(file)) + 5
    return body + lines + end(count, len(lines), len(body))


hostile("two-files-that-share-a-tail", SHARED, lambda: nested(2, NOISE[:5000]))
hostile("ten-files-that-share-a-tail", SHARED, lambda: nested(10, NOISE[:5000]))
hostile("two-hundred-files-that-share-a-tail", GROWS + "|" + SHARED, lambda: nested(200, bytes(900_000)))


def _hidden() -> bytes:
    """The second file's header lies among the bytes of the first."""
    inner = File("evil.html", b"evil", STORED)
    outer = File("outer.bin", PADDING + local_header(inner) + b"evil" + PADDING, STORED)
    body = local_header(outer) + outer.bytes()
    lines = central_header(outer, 0) + central_header(inner, len(local_header(outer)) + len(PADDING))
    return body + lines + end(2, len(lines), len(body))


hostile("archive-hidden-in-a-file", SHARED, _hidden)


@cache
def zeros(size: int) -> bytes:
    return deflated(bytes(size), 9)


def bomb(name: str, size: int) -> File:
    return File(name, bytes(size), packed=zeros(size))


hostile("one-file-that-grows", GROWS, lambda: with_index(bomb("a.bin", 5_000_000)))
hostile(
    "one-file-that-grows-beside-one-that-does-not",
    r"'a.bin' would grow more than 100 times",
    lambda: with_index(bomb("a.bin", 5_000_000), File("b.bin", NOISE)),
)
hostile(
    "two-hundred-megabytes-in-two-hundred-kilobytes",
    r"has 209,715,200 bytes",
    lambda: with_index(bomb("a.bin", 200 << 20)),
)
hostile("one-file-of-25-mebibytes-and-a-byte", r"has 26,214,401 bytes", lambda: with_index(_stored((25 << 20) + 1)))
hostile("many-small-files-that-grow", GROWS, lambda: make(INDEX, *(bomb(f"{n}.bin", 999_999) for n in range(100))))
hostile("more-than-the-sum", r"209,715,2\d\d bytes together", lambda: make(*(_half_packed(n) for n in range(8)), INDEX))
hostile(
    "growing-as-far-as-it-claims-not",
    r"holds more than",
    lambda: with_index(lying(packed=zeros(9_000_000), size=900_000)),
)
hostile("growing-under-what-macos-adds", GROWS, lambda: with_index(bomb("__MACOSX/a.bin", 5_000_000)))
hostile("largest-claims", r"4,294,967,295 bytes", lambda: with_index(lying(size=0xFFFF_FFFF)))
hostile(
    "largest-claims-of-many",
    GROWS + "|together",
    lambda: with_index(*(File(f"{n}.js", **_both(24_999_999)) for n in range(20))),
)


def _both(size: int) -> dict[str, dict[str, int]]:
    return {"local": {"size": size}, "central": {"size": size}}


def _stored(size: int) -> File:
    return File("a.bin", bytes(size), STORED)


def _half_packed(n: int) -> File:
    """25 MiB in half a MiB, and as true as the limits allow."""
    return replace(_quiet(), name=f"{n}.bin")


@cache
def _quiet() -> File:
    data = (NOISE[:512] + bytes(50 * 1024)) * 508
    data = data[: 25 << 20]
    return File("a.bin", data, packed=deflated(data))


for name, files in {
    "no-page": [File("app.js")],
    "index-with-another-case": [File("Index.html"), File("app.js")],
    "index-only-below": [File("docs/index.html"), File("app.js")],
    "office-document": [File("[Content_Types].xml"), File("word/document.xml")],
    "java-archive": [File("META-INF/MANIFEST.MF"), File("Main.class")],
    "archive-of-archives": [File("0.zip", GOOD), File("1.zip", GOOD)],
}.items():
    hostile(name, r"there is no|has '\['", lambda files=files: make(*files))  # type: ignore[misc]
