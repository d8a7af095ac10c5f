"""A folder as a ZIP on the disk: the same files give the same bytes, so that what is stored already is not stored again."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fluidcrew.exits import Exit, Halt
from fluidcrew.render import words

LARGEST = 50 * 2**20  # bytes, as the API takes them
REGULAR = 0o100644 << 16
CHUNK = 2**18


@dataclass(frozen=True, slots=True)
class Packed:
    """`left_out` are paths that are hidden, or lead elsewhere."""

    path: Path
    name: str
    files: int | None  # None: a ZIP that was one before
    left_out: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        return self.path.stat().st_size


@contextmanager
def packed(source: Path) -> Iterator[Packed]:
    """A ZIP as it is; a folder as one that is gone afterwards. Raises Halt."""
    if source.is_file():
        _refuse_what_is_no_zip(source)
        yield _checked(Packed(source, source.name, None))
        return
    if not source.is_dir():
        raise Halt(Exit.USAGE, f"there is no {source}: give a folder with an index.html, or a ZIP")
    with tempfile.TemporaryDirectory(prefix="fluidcrew-publish-") as scratch:
        name = f"{source.resolve().name or 'site'}.zip"
        yield _checked(_packed(source, Path(scratch) / "site.zip", name))


def _refuse_what_is_no_zip(file: Path) -> None:
    """By how it begins; the rest shows when it is unpacked."""
    with file.open("rb") as opened:
        if opened.read(2) != b"PK":
            advice = "put it into a folder and publish that, with --entry if it is not named index.html"
            raise Halt(Exit.USAGE, f"{file} is no ZIP archive: {advice}")


def _packed(folder: Path, into: Path, name: str) -> Packed:
    files, left_out = _listed(folder)
    if not files:
        raise Halt(Exit.USAGE, f"there are no files in {folder}: give a folder with an index.html")
    with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix())  # without the time of the file
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, REGULAR
            with path.open("rb") as file, archive.open(entry, "w") as out:
                while data := file.read(CHUNK):
                    out.write(data)
    return Packed(into, name, len(files), tuple(left_out))


def _listed(folder: Path) -> tuple[list[Path], list[str]]:
    files: list[Path] = []
    left_out: list[str] = []
    for at, folders, names in os.walk(folder):
        here = Path(at)
        for name in sorted([*folders, *names]):
            path = here / name
            if name.startswith(".") or path.is_symlink():
                left_out.append(path.relative_to(folder).as_posix())
            elif name in names:
                files.append(path)
        folders[:] = sorted(name for name in folders if not name.startswith("."))  # links are not followed
    return files, left_out


def _checked(found: Packed) -> Packed:
    if found.size > LARGEST:
        raise Halt(
            Exit.USAGE, f"{found.name} has {words.size(found.size)}: the API takes {words.size(LARGEST)} at most"
        )
    return found
