"""Makes the virtual environment: `python -m fluidcrew.setup_env runtime|dev`, with a bare Python 3.11 and its stdlib.

A stamp holds the hash of the lock that is installed, so that a second run ends at once; it is absent while packages
are being changed, so that an interrupted run is repaired by the next one.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from deploy.local.environment import CHECKOUT, BadEnvironment, load_dotenv
from fluidcrew.check import failed
from fluidcrew.preflight import preflight

VENV = CHECKOUT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "fluidcrew-stamp.json"
UNFINISHED = VENV / "fluidcrew-unfinished"
REQUIREMENTS = CHECKOUT / "requirements"
BOOTSTRAP = REQUIREMENTS / "bootstrap.txt"
EMBEDDING = REQUIREMENTS / "embedding.txt"  # what is installed without its dependencies
MODEL = CHECKOUT / "services" / "rag" / "embedding" / "build.py"
INCLUDES = {"dev": ("dev",), "runtime": ("dev", "runtime")}  # which locks satisfy a wish, the largest first
CONSOLE_SCRIPT = """\
#!{python}
import sys

sys.path.insert(0, {checkout!r})
from fluidcrew.__main__ import main

sys.exit(main())
"""


class SetupFailed(Exception):
    """The environment could not be made; the message says what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make setup", description="Makes the virtual environment.")
    parser.add_argument("group", choices=sorted(INCLUDES))
    parser.add_argument("--starting", action="store_true", help="the stack is started next: its ports must be free")
    options = parser.parse_args(arguments)
    try:
        load_dotenv(CHECKOUT / ".env", os.environ)
        if is_installed(options.group):
            return 0
        _check(options.starting)
        with _alone():
            if not is_installed(options.group):
                install(_group_that_stays(options.group))
    except (SetupFailed, BadEnvironment) as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("setup: interrupted; run it again to continue", file=sys.stderr)
        return 130
    return 0


def is_installed(group: str) -> bool:
    """Whether a lock that holds at least this group is installed as it is now."""
    return any(_stamped() == _stamp(candidate) for candidate in INCLUDES[group]) and PYTHON.exists()


def _stamped() -> dict[str, str]:
    """What the stamp says; empty where there is none that can be read."""
    try:
        stamp: dict[str, str] = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return stamp


def _group_that_stays(asked: str) -> str:
    """The larger group, where that is what an outdated lock was installed for: nobody loses their tests to a new lock."""
    there = _stamped().get("group")
    return there if there in INCLUDES[asked] else asked


def install(group: str) -> None:
    started = time.monotonic()
    _make_venv()
    _bootstrap_uv()
    _sync(group)
    _build_model()
    _write_console_script()
    UNFINISHED.unlink(missing_ok=True)
    STAMP.write_text(json.dumps(_stamp(group)))
    print(f"setup: {_size(group)} packages ready in {time.monotonic() - started:.1f} s", flush=True)


def _check(starting: bool) -> None:
    checks = preflight(os.environ, starting=starting)
    for check in checks:
        if not check.ok and "only the cockpit" not in check.detail:
            print(f"setup: {check.line()}", file=sys.stderr)
    if failed(checks):
        raise SetupFailed("this machine is not ready; see the lines above")


@contextmanager
def _alone() -> Iterator[None]:
    """One setup at a time: two terminals may say `make demo` at once."""
    descriptor = os.open(REQUIREMENTS, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _stamp(group: str) -> dict[str, str]:
    locks = b"".join(path.read_bytes() for path in (REQUIREMENTS / f"{group}.txt", BOOTSTRAP, EMBEDDING))
    lock = hashlib.sha256(locks).hexdigest()
    # The console script and the shebangs hold the checkout's path: a moved one needs another installation.
    return {"group": group, "lock": lock, "checkout": str(CHECKOUT)}


def _size(group: str) -> int:
    lines = [
        line for path in (REQUIREMENTS / f"{group}.txt", EMBEDDING) for line in path.read_text("utf-8").splitlines()
    ]
    return sum("==" in line and not line.startswith((" ", "#")) for line in lines)


def _make_venv() -> None:
    if _works(["-c", "import sys, pip; sys.exit(sys.prefix == sys.base_prefix or sys.version_info < (3, 11))"]):
        return
    print(f"setup: creating {VENV.name} with Python {sys.version.split()[0]}", flush=True)
    base = getattr(sys, "_base_executable", sys.executable)  # not a venv's own, which is about to go
    _run(
        [base, "-m", "venv", "--clear", str(VENV)],
        "cannot create the virtual environment (on Debian: apt install python3-venv)",
    )


def _works(arguments: Sequence[str]) -> bool:
    try:
        return subprocess.run([PYTHON, *arguments], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _bootstrap_uv() -> None:
    uv = VENV / "bin" / "uv"
    wanted = next(
        line.split("==")[1].split()[0] for line in BOOTSTRAP.read_text().splitlines() if line.startswith("uv==")
    )
    try:
        if subprocess.run([uv, "--version"], capture_output=True, text=True, check=False).stdout.split()[1:2] == [
            wanted
        ]:
            return
    except OSError:
        pass  # not there yet
    command: list[str | Path] = [
        PYTHON,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--require-hashes",
        "-r",
        BOOTSTRAP,
    ]
    _run(command, "cannot install uv; is the package index reachable?")


def _sync(group: str) -> None:
    """Installs exactly what the locks say, and nothing that only a package asks for; after an interruption everything anew,
    since a package may be half there."""
    interrupted = UNFINISHED.exists()
    STAMP.unlink(missing_ok=True)
    UNFINISHED.touch()
    command: list[str | Path] = [
        VENV / "bin" / "uv",
        "pip",
        "sync",
        "--require-hashes",
        "--python",
        PYTHON,
        "--link-mode",
        _link_mode(),
    ]
    command += certificates()
    command += ["--reinstall"] if interrupted else []
    command += [BOOTSTRAP, REQUIREMENTS / f"{group}.txt", EMBEDDING]
    with _progress(group):
        _run(command, "cannot install the locked packages; run it again to continue", show=sys.stderr.isatty())


def _build_model() -> None:
    """A few seconds now, instead of before the first answer."""
    if MODEL.exists():
        _run([PYTHON, "-I", MODEL], "cannot build the local embedding model; run it again to continue")


def certificates() -> list[str]:
    """uv's option for the machine's own certificates, where it has any: a company's authority is only known there."""
    paths = ssl.get_default_verify_paths()
    directory = Path(paths.capath) if paths.capath else None
    there = paths.cafile is not None or (directory is not None and any(directory.glob("*.0")))
    return ["--system-certs"] if there else []


def _link_mode() -> str:
    """Hard links need the cache on the same file system; where it is not, uv would warn and copy."""
    cache = Path(os.environ.get("UV_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    while not cache.exists() and cache != cache.parent:
        cache = cache.parent
    return "hardlink" if cache.stat().st_dev == VENV.stat().st_dev else "copy"


@contextmanager
def _progress(group: str) -> Iterator[None]:
    """On a terminal uv draws its own bars; elsewhere a line says every few seconds how far it is."""
    print(f"setup: installing {_size(group)} packages", flush=True)
    done = threading.Event()

    def report() -> None:
        started = time.monotonic()
        while not done.wait(5.0):
            there = len(list((VENV / "lib").glob("python*/site-packages/*.dist-info")))
            print(f"setup: … {there} of {_size(group)} installed after {time.monotonic() - started:.0f} s", flush=True)

    reporter = threading.Thread(target=report, daemon=True)
    if not sys.stderr.isatty():
        reporter.start()
    try:
        yield
    finally:
        done.set()


def _run(command: Sequence[str | Path], complaint: str, show: bool = False) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")}
    output = None if show else subprocess.PIPE
    done = subprocess.run([str(c) for c in command], stdout=output, stderr=output, env=environment, check=False)
    if done.returncode:
        said = (done.stderr or b"").decode(errors="replace").strip()
        raise SetupFailed("\n".join(filter(None, (said, complaint))))


def _write_console_script() -> None:
    """The command `fluidcrew` runs from the checkout itself: nothing to build, nothing that goes stale."""
    script = VENV / "bin" / "fluidcrew"
    script.write_text(CONSOLE_SCRIPT.format(python=PYTHON, checkout=str(CHECKOUT)))
    script.chmod(script.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)


if __name__ == "__main__":
    sys.exit(main())
