"""The corpus of archives that must be refused: each by its name, with what must be said of it."""

from __future__ import annotations

import bz2
import io
import lzma
import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from tests.publisher.zips import (
    DEFLATED,
    DOS,
    INDEX,
    STORED,
    UTF8,
    File,
    folder,
    link,
    make,
    with_index,
)


class Hostile(NamedTuple):
    make: Callable[[], bytes]
    says: str  # a regular expression


HOSTILE: dict[str, Hostile] = {}
LEADS_OUT, BACKSLASH, ABSOLUTE = r"may lead out of the site", r"backslash", r"absolute path"
STRANGE, HIDDEN, SPACE = r"has ('.+'|\".+\") in its path; rename", r"is hidden", r"begins with a space"
TWO_WAYS, ANEW, NO_ZIP = r"described in two ways", r"pack the folder anew", r"no ZIP archive"
SHARED, CUT, ZIP64 = r"shares its bytes", r"cut off", r"ZIP64"
DAMAGED, ENCRYPTED, GROWS = r"is damaged", r"is encrypted", r"grow more than 100 times"


def hostile(name: str, says: str, make: Callable[[], bytes]) -> None:
    assert name not in HOSTILE, f"{name} is in the corpus twice"
    HOSTILE[name] = Hostile(make, says)


def beside_the_index(says: str, **files: File) -> None:
    for name, file in files.items():
        hostile(name.replace("_", "-"), says, lambda file=file: with_index(file))  # type: ignore[misc]


def names(says: str, **given: str | bytes) -> None:
    beside_the_index(says, **{key: File(name, b"evil") for key, name in given.items()})


names(
    LEADS_OUT,
    up="../evil.html",
    up_twice="../../evil.html",
    far_up="../../../../../../../../tmp/fluidcrew-evil.html",
    in_and_out="assets/../../evil.html",
    down_and_up="assets/../evil.html",
    only_up="..",
    ends_up="assets/..",
    here="./evil.html",
    here_within="assets/./evil.html",
    only_here=".",
    doubled_slash="assets//evil.html",
    macos_folder_that_leads_out="__MACOSX/../../evil.html",
    ds_store_that_leads_out="../../.DS_Store",
)
names(
    ABSOLUTE,
    absolute="/etc/fluidcrew-evil",
    absolute_tmp="/tmp/fluidcrew-evil.html",
    absolute_proc="/proc/self/environ",
    network_path="//server/share/evil.html",
    drive="C:/evil.html",
    drive_relative="c:evil.html",
    drive_alone="Z:",
    file_scheme_like_a_drive="f:/etc/passwd",
)
names(
    BACKSLASH,
    windows_up="..\\evil.html",
    windows_in_and_out="assets\\..\\..\\evil.html",
    windows_root="\\evil.html",
    windows_drive="C:\\evil.html",
    windows_share="\\\\server\\share\\evil.html",
    windows_device_path="\\\\?\\C:\\evil.html",
    windows_folders="assets\\evil.js",
    mixed_slashes="assets/..\\../evil.html",
)
names(
    STRANGE,
    percent_encoded_up="%2e%2e/evil.html",
    percent_encoded_slash="..%2fevil.html",
    double_encoded_up="%252e%252e%252fevil",
    parameter_up="..;/evil.html",
    url="http://evil.example/x.html",
    file_url="file:///etc/passwd",
    stream="index.html:evil",
    nul_inside="index.html\x00.png",
    nul_at_the_end="evil.html\x00",
    nul_alone="\x00",
    nul_behind_up="..\x00/evil",
    newline="evil\n.html",
    carriage_return="evil\r.html",
    tabulator="evil\t.html",
    escape_sequence="\x1b[2Jevil.html",
    backspace="evil\x08.html",
    delete="evil\x7f.html",
    tag="<script>alert(1)</script>.html",
    quote='evil".html',
    apostrophe="evil'.html",
    pipe="|reboot",
    star="*.html",
    question="evil.html?x=1",
    fragment="evil#x.html",
    backticks="`reboot`.html",
    semicolon="a;reboot.html",
    ampersand="a&b.html",
    braces="{{7*7}}.html",
    umlaut="über.html",
    umlaut_decomposed="u\u0308ber.html",
    right_to_left="\u202egpj.exe",
    zero_width="evil\u200b.html",
    byte_order_mark="\ufeffindex.html",
    fullwidth_dots="\uff0e\uff0e/evil.html",
    division_slash="..\u2215evil.html",
    fraction_slash="..\u2044evil.html",
    one_dot_leader="\u2024\u2024/evil.html",
    kelvin_sign="\u212a.html",
    sharp_s="stra\u00dfe.html",
    dotted_i="\u0130ndex.html",
    ligature="\ufb00.html",
    emoji="\U0001f600.html",
    line_separator="evil\u2028.html",
    non_breaking_space="evil\u00a0.html",
    code_page_437=b"\x81ber.html",
    code_page_437_slash_lookalike=b"a\xb5b.html",
)
names(
    HIDDEN,
    htaccess=".htaccess",
    environment=".env",
    git_configuration=".git/config",
    git_within="assets/.git/HEAD",
    ssh_keys="~/.ssh/authorized_keys",
    well_known=".well-known/security.txt",
    resource_fork="._index.html",
    three_dots="...",
    three_dots_within="assets/.../evil.html",
    dots_and_space=".. /evil.html",
)
names(SPACE, space_before_dots=" ../evil.html", space_alone="assets/ /evil.html", space_at_the_start=" evil.html")
names(r"levels deep", too_deep="/".join("a" * 21), very_deep="a/" * 140 + "b")
names(r"name of more than 100", long_name="a" * 101, long_folder="a" * 101 + "/index.html")
names(r"path of more than 300", long_path="/".join(["a" * 60] * 6), longest_path_there_is="a/" * 32_000 + "b")
names(r"has no name", no_name="")
for key, raw in {
    "broken-utf-8": b"\xff\xfe.html",
    "overlong-dots": b"\xc0\xae\xc0\xae/evil.html",
    "surrogate-in-utf-8": b"\xed\xa0\x80.html",
    "half-a-character": b"evil\xc3",
}.items():
    hostile(key, r"not the UTF-8 it claims", lambda raw=raw: with_index(File(raw, flags=UTF8)))  # type: ignore[misc]


def of_kind(mode: int, name: str = "evil", **fields: int) -> File:
    return File(name, b"/etc/passwd", STORED, attributes=(mode << 16) | fields.pop("dos", 0), **fields)


beside_the_index(
    r"is a symbolic link",
    link_to_a_secret=link("evil.html", "/etc/passwd"),
    link_up=link("assets", "../.."),
    link_to_itself=link("loop.html", "loop.html"),
    link_made_on_macos=of_kind(0o120777, system=19),
    link_that_is_packed=replace(link("evil.html", "/etc/passwd"), method=DEFLATED),
    link_with_every_right=of_kind(0o127777),
)
hostile("link-as-the-index", r"is a symbolic link", lambda: make(link("index.html", "/etc/passwd")))
hostile(
    "file-through-a-link",
    r"is a symbolic link",
    lambda: with_index(link("assets", "/tmp"), File("assets/fluidcrew-evil.html")),
)
beside_the_index(r"is a device", character_device=of_kind(0o020666), block_device=of_kind(0o060666))
beside_the_index(r"is a named pipe", named_pipe=of_kind(0o010666))
beside_the_index(r"is a socket", socket=of_kind(0o140777))
beside_the_index(
    r"a link or a device",
    reparse_point=File("evil.html", attributes=0x400, system=DOS),
    windows_device=File("evil.html", attributes=0x40, system=DOS),
)
beside_the_index(r"neither a file nor a folder", whiteout=of_kind(0o160000), unknown_kind=of_kind(0o030000))
beside_the_index(
    r"a file and a folder at once",
    folder_with_content=File("assets/", b"evil", attributes=(0o40755 << 16) | 0x10),
    file_that_says_folder=of_kind(0o040755),
    file_that_dos_calls_a_folder=File("evil", attributes=0x10, system=DOS),
    folder_that_says_file=File("assets/", b"", STORED),
)


def together(name: str, says: str, *files: File) -> None:
    hostile(name, says, lambda: with_index(*files))


together("same-name-twice", r"is in the archive twice", File("a.js", b"one"), File("a.js", b"other"))
together("index-twice", r"is in the archive twice", replace(INDEX, data=b"evil"))
together("same-file-twice", r"is in the archive twice", File("a.js"), File("a.js"))
together("folder-twice", r"is in the archive twice", folder("assets/"), folder("assets/"))
together("case", r"differ in case only", File("App.js"), File("app.js"))
together("case-of-the-index", r"differ in case only", File("INDEX.HTML"))
together("case-of-a-folder", r"differ in case only", File("Assets/a.js"), File("assets/a.js"))
together("case-of-a-suffix", r"differ in case only", File("a.js"), File("b.js"), File("a.JS"))
together("file-and-folder", r"is a file, and a folder in", File("a"), File("a/b.js"))
together("folder-and-file", r"is a file, and a folder in", File("a/b.js"), File("a"))
together("file-and-folder-by-case", r"is a file, and a folder in", File("A"), File("a/b.js"))
together("file-and-deep-folder", r"is a file, and a folder in", File("a/b"), File("a/b/c/d.js"))
together("file-and-empty-folder", r"is a file, and a folder in", File("a"), folder("a/"))
together("file-and-empty-folder-by-case", r"is a file, and a folder in", folder("A/"), File("a"))
together("composed-and-decomposed", STRANGE, File("\u00e9.html"), File("e\u0301.html"))

beside_the_index(
    ENCRYPTED,
    encrypted=File("evil.html", flags=1),
    strongly_encrypted=File("evil.html", flags=1 | 1 << 6),
    only_strongly_encrypted=File("evil.html", flags=1 << 6),
    masked_directory=File("evil.html", flags=1 << 13),
    aes=File("evil.html", method=99, packed=b"x"),
    encrypted_in_the_directory_only=File("evil.html", central={"flags": 1}),
)
beside_the_index(TWO_WAYS, encrypted_in_its_header_only=File("evil.html", local={"flags": 1}))
hostile("all-encrypted", ENCRYPTED, lambda: make(replace(INDEX, flags=1, packed=bytes(12) + b"?" * 20)))

beside_the_index(
    r"is compressed with",
    shrunk=File("a.js", method=1),
    imploded=File("a.js", method=6),
    deflate64=File("a.js", method=9),
    bzip2=File("a.js", b"x", 12, packed=bz2.compress(b"x")),
    lzma=File("a.js", b"x", 14, packed=b"\x09\x04\x05\x00" + lzma.compress(b"x", lzma.FORMAT_ALONE)),
    zstd=File("a.js", method=93),
    xz=File("a.js", b"x", 95, packed=lzma.compress(b"x")),
    wavpack=File("a.wav", method=97),
    ppmd=File("a.js", method=98),
    method_of_nobody=File("a.js", method=0xFFFF),
    patch=File("a.js", flags=1 << 5),
)
SIZES64 = struct.pack("<2HQQ", 1, 16, 1, 1)
beside_the_index(
    ZIP64,
    zip64_sizes=File("a.js", extra=SIZES64),
    zip64_sizes_in_the_directory_only=File("a.js", central={"extra": SIZES64, "size": 0xFFFF_FFFF}),
    zip64_sizes_in_its_header_only=File("a.js", local={"extra": SIZES64, "size": 0xFFFF_FFFF}),
)
hostile("zip64-count", ZIP64, lambda: with_index(count=0xFFFF, here=0xFFFF))
hostile("zip64-offset", ZIP64, lambda: with_index(begin=0xFFFF_FFFF))
hostile("zip64-locator", ZIP64, lambda: with_index()[:-22] + b"PK\x06\x07" + bytes(16) + with_index()[-22:])


def by_python(force_zip64: bool) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive, archive.open("index.html", "w", force_zip64=force_zip64) as entry:
        entry.write(INDEX.data)
    return file.getvalue()


hostile("zip64-as-python-writes-it", ZIP64, lambda: by_python(force_zip64=True))

hostile("second-of-two-disks", r"one part of several", lambda: with_index(disk=1))
hostile("directory-on-another-disk", r"one part of several", lambda: with_index(first_disk=1))
hostile("directory-on-two-disks", r"one part of several", lambda: with_index(File("a.js"), here=1))
hostile("file-on-another-disk", r"another part", lambda: with_index(File("a.js", central={"disk": 1})))
hostile("spanning-marker", NO_ZIP, lambda: make(INDEX, prefix=b"PK\x07\x08"))


def many(count: int, comment: bytes = b"") -> bytes:
    return make(*(File(f"{n}.html", b"", STORED, comment=comment) for n in range(count)))


hostile("one-file-too-many", r"2,001 entries", lambda: many(2001))
hostile("sixty-five-thousand-files", r"65,534 entries", lambda: many(65_534))
hostile("fat-directory", r"directory has", lambda: many(2000, comment=bytes(600)))
hostile(
    "fewer-files-than-claimed", r"claims 3 entries and has fewer", lambda: with_index(File("a.js"), count=3, here=3)
)
hostile("more-files-than-claimed", r"claims 1 entries and has more", lambda: with_index(File("a.js"), count=1, here=1))
hostile("no-files-claimed", r"claims 0 entries and has more", lambda: with_index(count=0, here=0))
hostile("no-files", r"no files in it", make)
hostile("only-folders", r"no files in it", lambda: make(folder("a/"), folder("a/b/")))
hostile("only-what-macos-adds", r"no files in it", lambda: make(File("__MACOSX/._index.html"), File(".DS_Store")))
