"""The data directory of one stack: its lock, its secrets, its ports, and what the command line needs to find it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy.local.ports import free_port, hold, is_free

LOG_ROTATION_BYTES = 10 * 1024 * 1024


class HomeUnusable(Exception):
    """The data directory cannot be used; the message says what to do."""


class HomeBusy(HomeUnusable):
    """Another supervisor works in this data directory."""


class Home:
    """Paths, secrets and ports below FLUIDCREW_HOME. Everything here is private to the user."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.logs = self.path / "logs"
        self.secrets = self.path / "secrets"

    def prepare(self) -> None:
        """Creates what is missing; raises HomeUnusable when nothing can be written there."""
        try:
            for directory in (self.path, self.logs, self.secrets):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            probe = self.path / ".writable"
            probe.write_bytes(b"\0" * 65536)
            probe.unlink()
        except OSError as error:
            raise HomeUnusable(explain(error, self.path)) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the directory for this process; the kernel lets go of it however the process ends."""
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if not _lock(descriptor):
                holder = os.pread(descriptor, 32, 0).decode().strip() or "unknown"
                advice = "stop it, or set FLUIDCREW_HOME to another directory"
                raise HomeBusy(f"a stack is already running in {self.path} (pid {holder}): {advice}")
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def secret(self, name: str) -> str:
        """A password that is generated at its first use and stays."""
        file = self.secrets / name
        try:
            found = file.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            found = ""
        if not found:  # an empty file is what a full disk leaves
            found = secrets.token_urlsafe(24)
            self.write_private(file, found)
        return found

    def write_private(self, file: Path, text: str) -> None:
        """Replaces a file of mode 0600 in one step, so that a reader sees the old or the new one."""
        fresh = file.with_name(f".{file.name}.new")
        fresh.unlink(missing_ok=True)
        try:
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(text)
            fresh.replace(file)
        except OSError as error:
            raise HomeUnusable(explain(error, self.path)) from error

    def port(self, name: str) -> int:
        """The port `name` had at the last start, or another one when it has been taken since."""
        ports, owner = self._read("ports.json"), f"{name} of {self.path}"
        known = ports.get(name)
        if isinstance(known, int) and is_free(known) and hold(known, owner):
            return known
        ports[name] = free_port(avoid=ports.values(), owner=owner)
        self.write_private(self.path / "ports.json", json.dumps(ports, indent=1))
        return int(ports[name])

    def publish(self, facts: Mapping[str, Any]) -> None:
        self.write_private(self.path / "stack.json", json.dumps({"pid": os.getpid(), **facts}, indent=1))

    def withdraw(self) -> None:
        (self.path / "stack.json").unlink(missing_ok=True)

    def log_file(self, name: str) -> Path:
        file = self.logs / f"{name}.log"
        if file.exists() and file.stat().st_size > LOG_ROTATION_BYTES:
            file.replace(file.with_suffix(".log.1"))
        return file

    def _read(self, name: str) -> dict[str, Any]:
        try:
            found = json.loads((self.path / name).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def is_held(home: Path) -> bool:
    """Whether some process works in this directory."""
    try:
        descriptor = os.open(home / "lock", os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _lock(descriptor: int) -> bool:
    """Tries for a moment: somebody who only looks whether the lock is held holds it for an instant."""
    for _ in range(5):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.04)
        else:
            return True
    return False


def explain(error: OSError, path: Path) -> str:
    """One line for what a file system refused, with its remedy."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"no space left for {path}: free some, or set FLUIDCREW_HOME to a directory on another disk"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"cannot write to {path} ({error.strerror}): correct its rights, or set FLUIDCREW_HOME to your own"
    return f"cannot use {path} as data directory ({error.strerror}): set FLUIDCREW_HOME to another one"
