"""A place on the disk for files at work: one directory per process, which goes with it, killed or not."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from uuid import uuid4

from contracts.errors import RetryLater

PREFIX = "fluidcrew-"
LOCK = "lock"
NO_ROOM = 10.0  # seconds until a full disk is tried again
LOCKLESS = 3600.0  # seconds that a directory may be without a lock: its process is about to take it


class Scratch:
    def __init__(self, service: str, below: Path | None = None) -> None:
        """Takes a directory of its own, and removes those whose processes died."""
        below = below or Path(tempfile.gettempdir())
        sweep(service, below)
        self.path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{service}-", dir=below))
        unnamed = self.path / f"{LOCK}.new"
        self._lock = os.open(unnamed, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        unnamed.rename(self.path / LOCK)  # a lock that others see is held

    @asynccontextmanager
    async def room(self) -> AsyncIterator[Path]:
        """An empty directory, gone after the block. Raises RetryLater when the disk is full, also from within it."""
        room = self.path / uuid4().hex
        try:
            room.mkdir(0o700)
            yield room
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise RetryLater(NO_ROOM, f"there is no room for a file in {self.path.parent}: {error.strerror}") from None
        finally:
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, room, ignore_errors=True))

    async def close(self) -> None:
        await asyncio.to_thread(shutil.rmtree, self.path, ignore_errors=True)
        os.close(self._lock)


def sweep(service: str, below: Path) -> None:
    for left in below.glob(f"{PREFIX}{service}-*"):
        with suppress(OSError):  # somebody else's, or gone meanwhile
            if _is_abandoned(left):
                shutil.rmtree(left)


def _is_abandoned(directory: Path) -> bool:
    try:
        lock = os.open(directory / LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return time.time() - directory.stat().st_mtime > LOCKLESS
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True
