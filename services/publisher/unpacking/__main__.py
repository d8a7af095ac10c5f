"""Unpacks one ZIP: `python -I -S …/unpacking/__main__.py <archive> <directory> [entry]`; says in JSON what became of it.

{"entry": …, "files": [[path, sha256, size], …]}; {"error": …} when the archive is refused; else a word of confined_worker.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[3]))  # isolated: it finds the standard library, and us

from chassis.confined_worker import Limits, answer
from services.publisher.domain.paths import NoSite, site
from services.publisher.unpacking.archive import LARGEST_FILE, read_archive
from services.publisher.unpacking.directory import MIB, Refused
from services.publisher.unpacking.inflating import write

LIMITS = Limits(memory=512 * MIB, cpu=30, wall=30, written=LARGEST_FILE, files=16)


def unpack(archive: Path, target: Path, entry: str | None) -> dict[str, object]:
    """Raises Refused or NoSite."""
    with archive.open("rb") as file:
        found = {one.path: one for one in read_archive(file)}
        wanted = site(found, entry)
        written = {path: write(file, found[given], target) for path, given in wanted.files.items()}
    return {"entry": wanted.entry, "files": [[path, *one] for path, one in written.items()]}


def main(archive: str, target: str, entry: str | None = None) -> None:
    def unpacked() -> dict[str, object]:
        try:
            return unpack(Path(archive), Path(target), entry)
        except (Refused, NoSite) as error:
            return {"error": str(error)}

    answer(LIMITS, unpacked)


if __name__ == "__main__":
    main(*sys.argv[1:])
