"""Unpacks one ZIP: `python -I -S …/unpacking/__main__.py <archive> <directory> [entry]`; says in JSON what became of it.

{"entry": …, "files": [[path, sha256, size], …]}; {"error": …} when the archive is refused; {"no_room": …} on a full disk.
"""

from __future__ import annotations

import errno
import json
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[3]))  # isolated: it finds the standard library, and us

from services.publisher.domain.paths import NoSite, site
from services.publisher.unpacking import limits
from services.publisher.unpacking.archive import read_archive
from services.publisher.unpacking.directory import Refused
from services.publisher.unpacking.inflating import write


def unpack(archive: Path, target: Path, entry: str | None) -> dict[str, object]:
    """Raises Refused or NoSite."""
    with archive.open("rb") as file:
        found = {one.path: one for one in read_archive(file)}
        wanted = site(found, entry)
        written = {path: write(file, found[given], target) for path, given in wanted.files.items()}
    return {"entry": wanted.entry, "files": [[path, *one] for path, one in written.items()]}


def main(archive: str, target: str, entry: str | None = None) -> None:
    limits.apply()
    try:
        said = unpack(Path(archive), Path(target), entry)
    except (Refused, NoSite) as error:
        said = {"error": str(error)}
    except MemoryError:
        said = {"error": "unpacking the archive takes more memory than it may; pack the folder anew"}
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        said = {"no_room": f"{error.strerror} ({target})"}
    sys.stdout.write(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
