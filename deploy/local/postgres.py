"""The embedded Postgres: the wheel's binaries as our own child, on loopback TCP with a password.

Postgres refuses to run as root. When we are root, a system user of its own runs it, and what that user cannot
reach (a checkout below a private home) is kept in /var/lib/fluidcrew instead.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from deploy.local.home import Home, explain
from deploy.local.process import Child, StartFailed, bound_to_parent
from deploy.local.shared import (
    INSTALLATION,
    OWNER,
    PACKAGE,
    SHARED,
    copy_of,
    database_of,
    passable,
    remove_unused,
    shared_directory,
)

SYSTEM_USER = "fluidcrew"
SUPERUSER = "postgres"
DISK_FULL = ("No space left on device", "File too large", "Disk quota exceeded")
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "512MB",
}


class Postgres:
    """A cluster in the data directory, and the server on it."""

    name = "postgres"

    def __init__(self, home: Home, **settings: str) -> None:
        self._home = home
        self.user = _system_user() if os.geteuid() == 0 else None
        self.directory = _reachable_directory(home.path / "postgres", self.user)
        self.data = self.directory / "data"
        self.binaries = _executable_binaries(self.user)
        self.port = home.port("postgres")
        self.child = Child(
            "postgres",
            self._command(SETTINGS | settings),
            home.log_file("postgres"),
            cwd=Path("/"),
            user=self.user,
            death_signal=signal.SIGINT,  # the fast shutdown: clients are cut off, the cluster is left clean
            stop_signal=signal.SIGINT,
        )

    def launch(self) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.user is not None:
            os.chown(self.directory, self.user.pw_uid, self.user.pw_gid)
            if not self.directory.is_relative_to(self._home.path):
                (self.directory / OWNER).write_text(f"{self._home.path}\n", encoding="utf-8")
        if not (self.data / "PG_VERSION").exists():
            self._initialise()
        self._remove_stale_pid()
        self.child.launch()

    def answers(self) -> bool:
        """What pg_ctl looks at: the server writes its state into the eighth line of its pid file."""
        lines = self._pid_file()
        return len(lines) >= 8 and lines[0] == str(self.child.pid) and lines[7].strip() == "ready"

    def complaint(self) -> str:
        return ""

    def curable(self) -> bool:
        return False

    def url(self, database: str = "postgres", user: str = SUPERUSER, password: str = "") -> str:
        return f"postgresql://{user}:{password or self._home.secret('postgres')}@127.0.0.1:{self.port}/{database}"

    def _command(self, settings: dict[str, str]) -> list[str | Path]:
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [self.binaries / "postgres", "-D", self.data, "-p", str(self.port), *options]

    def _initialise(self) -> None:
        """initdb into a directory that becomes `data` only when complete: an interruption leaves nothing half."""
        unfinished = self.directory / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.rmtree(self.data, ignore_errors=True)  # no PG_VERSION: nothing that was ever a cluster
        password = self.directory / "initial-password"
        self._home.write_private(password, self._home.secret("postgres"))
        if self.user is not None:
            os.chown(password, self.user.pw_uid, self.user.pw_gid)
        command: list[str | Path] = [
            self.binaries / "initdb",
            "-D",
            unfinished,
            "-U",
            SUPERUSER,
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
        ]
        self._run([*command, "-A", "scram-sha-256", f"--pwfile={password}", "--no-sync", "--no-instructions"])
        password.unlink()
        unfinished.rename(self.data)

    def _run(self, command: Sequence[str | Path]) -> None:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            start_new_session=True,
            preexec_fn=bound_to_parent(self.user, signal.SIGKILL),
            check=False,
        )
        if done.returncode:
            said = done.stdout.decode(errors="replace").strip()
            if any(words in said for words in DISK_FULL):
                raise StartFailed(explain(OSError(errno.ENOSPC, ""), self.directory))
            raise StartFailed(f"{Path(command[0]).name} failed: " + " / ".join(said.splitlines()[-4:]))

    def _remove_stale_pid(self) -> None:
        """After a crash the pid in the file may by now belong to anything, and Postgres would refuse to start."""
        lines = self._pid_file()
        if lines and lines[0].isdigit() and _is_alive(int(lines[0])) and not _is_postgres(int(lines[0])):
            (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _pid_file(self) -> list[str]:
        try:
            return (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return []


def installation() -> Path:
    """The directory of the wheel that holds Postgres 18."""
    spec = importlib.util.find_spec(PACKAGE)
    found = Path(spec.origin).parent / INSTALLATION if spec and spec.origin else None
    if found is None or not (found / "bin" / "postgres").is_file():
        raise StartFailed("the embedded Postgres is not installed: run `make setup`, or set DATABASE_URL")
    return found


def _system_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        pass
    command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER]
    try:
        subprocess.run(command, check=True, capture_output=True)
        return pwd.getpwnam(SYSTEM_USER)
    except (OSError, subprocess.CalledProcessError, KeyError) as error:
        raise StartFailed(
            f"Postgres does not run as root, and `{' '.join(command)}` failed: create that user, "
            "start as an ordinary user, or set DATABASE_URL"
        ) from error


def _reachable_directory(wanted: Path, user: pwd.struct_passwd | None) -> Path:
    if user is None:
        return wanted
    wanted.parent.chmod(wanted.parent.stat().st_mode | 0o011)  # to pass through, not to look into
    if passable(wanted.parent):
        return wanted
    return database_of(wanted.parent, shared_directory(SYSTEM_USER))


def _executable_binaries(user: pwd.struct_passwd | None) -> Path:
    """The wheel's own binaries, or a copy when `user` cannot reach the virtual environment."""
    source = installation()
    if user is None:
        return source / "bin"
    found = source / "bin" if passable(source / "bin") else copy_of(source, shared_directory(SYSTEM_USER))
    remove_unused(SHARED)
    return found


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _is_postgres(pid: int) -> bool:
    try:
        return b"postgres" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True  # cannot tell: leave the decision to Postgres
