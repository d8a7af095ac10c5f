"""What can be known about this machine before anything is downloaded or started; stdlib only.

Each finding that is wrong says how to put it right.
"""

from __future__ import annotations

import importlib.util
import json
import locale
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from deploy.local.environment import (
    CHECKOUT,
    DEFAULT_PORT,
    DEFAULT_PREVIEW_PORT,
    LISTENING,
    BadEnvironment,
    home_of,
    load_dotenv,
    port_of,
    value_of,
)
from deploy.local.home import explain
from deploy.local.ports import is_free
from fluidcrew.check import Check, failed
from fluidcrew.reachable import provider

MIB = 1024 * 1024
INSTALL_BYTES = 1100 * MIB
DATA_BYTES = 300 * MIB
MEMORY_BYTES = 1024 * MIB


def main() -> int:
    """`make doctor` where nothing is installed yet."""
    try:
        load_dotenv(CHECKOUT / ".env", os.environ)
    except BadEnvironment as error:
        print(f"doctor: {error}", file=sys.stderr)
        return 78
    checks = preflight(os.environ, starting=True)
    print("\n".join(check.line() for check in checks))
    print("nothing is installed yet; after `make setup` this looks at the embedded servers as well")
    return 69 if failed(checks) else 0


def preflight(environ: Mapping[str, str], *, starting: bool, installing: bool = True) -> list[Check]:
    """What can be known before anything is downloaded or started."""
    checks = [python_version(), utf8()]
    if installing:
        checks += [venv_module(), disk("disk for the installation", CHECKOUT, INSTALL_BYTES)]
    for check in (data_directory, memory, root_user, node):
        checks += guarded(check, environ)
    if starting:
        checks += guarded(ports, environ)
    return checks + guarded(provider, environ)


def guarded(check: Callable[[Mapping[str, str]], list[Check]], environ: Mapping[str, str]) -> list[Check]:
    try:
        return check(environ)
    except BadEnvironment as error:
        message, _, fix = str(error).partition("; ")
        return [Check("environment", False, message, fix)]


def python_version() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    fix = "install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3.12 …"
    return Check("Python", sys.version_info >= (3, 11), f"{found} at {sys.executable} (3.11 or newer is needed)", fix)


def utf8() -> Check:
    encoding = locale.getpreferredencoding(False)
    good = encoding.lower().replace("-", "") == "utf8" and sys.getfilesystemencoding().lower() == "utf-8"
    return Check("locale", good, f"text is {encoding}", "export LC_ALL=C.UTF-8", fatal=False)


def venv_module() -> Check:
    there = all(importlib.util.find_spec(name) for name in ("venv", "ensurepip"))
    return Check(
        "venv", bool(there), "the modules venv and ensurepip", "install them (on Debian: apt install python3-venv)"
    )


def disk(name: str, directory: Path, needed: int) -> Check:
    usage = shutil.disk_usage(_existing(directory))
    free = usage.free
    if usage.total == 0:  # a device, or a file system that does not count: no reason to say that it is full
        return Check(name, True, f"what is free at {directory} cannot be told")
    fix = (
        "free some space"
        if directory == CHECKOUT
        else "free some space, or set FLUIDCREW_HOME to a directory on another disk"
    )
    return Check(name, free >= needed, f"{free // MIB} MiB free at {directory}, {needed // MIB} needed", fix)


def data_directory(environ: Mapping[str, str]) -> list[Check]:
    home = home_of(environ)
    try:
        with tempfile.TemporaryFile(dir=str(_existing(home))) as probe:
            probe.write(b"\0" * 65536)
            probe.flush()
    except OSError as error:
        message, _, fix = explain(error, home).partition(": ")
        return [Check("data directory", False, message, fix)]  # how much is free there tells nothing
    return [Check("data directory", True, str(home)), disk("disk for data", home, DATA_BYTES)]


def _existing(path: Path) -> Path:
    """The path, or the nearest above it that is there."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def memory(_: Mapping[str, str]) -> list[Check]:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return []  # not Linux
    fix = "stop something; the stack takes about 600 MiB"
    return [Check("memory", free >= MEMORY_BYTES, f"{free // MIB} MiB available", fix, fatal=False)]


def root_user(environ: Mapping[str, str]) -> list[Check]:
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or value_of(environ, "DATABASE_URL"):
        return []
    known = (
        subprocess.run(
            ["id", "fluidcrew"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
        ).returncode
        == 0
    )
    fix = "create it (useradd --system fluidcrew), start as an ordinary user, or set DATABASE_URL"
    return [Check("root", known or bool(shutil.which("useradd")), "Postgres runs as the system user fluidcrew", fix)]


def node(_: Mapping[str, str]) -> list[Check]:
    found = shutil.which("node")
    return [
        Check(
            "Node",
            bool(found),
            found or "not found; only the cockpit needs it",
            "install Node 20 or newer",
            fatal=False,
        )
    ]


def ports(environ: Mapping[str, str]) -> list[Check]:
    checks = []
    running = _running_stack(environ)
    for name, default, at in LISTENING:
        port = port_of(environ, name, default)
        holder = f"in use by the stack that runs in {home_of(environ)} (pid {running})" if running else "in use"
        fix = f"stop what listens there, or set {name} to another port"
        free = is_free(port, environ.get(at) or "127.0.0.1")
        checks.append(Check(name, free or running is not None, f"port {port} is {'free' if free else holder}", fix))
    if port_of(environ, "PORT", DEFAULT_PORT) == port_of(environ, "PREVIEW_PORT", DEFAULT_PREVIEW_PORT):
        fix = "give each a port of its own: previews need an origin apart from the API's"
        checks.append(Check("PREVIEW_PORT", False, "PORT and PREVIEW_PORT are the same", fix))
    return checks


def _running_stack(environ: Mapping[str, str]) -> int | None:
    try:
        pid = int(json.loads((home_of(environ) / "stack.json").read_text())["pid"])
        os.kill(pid, 0)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return pid


if __name__ == "__main__":
    sys.exit(main())
