"""The peers' virtual environments, below the data directory: made from their locks, made again when a lock changed."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from bench.contestant import LeftOut
from deploy.local.environment import CHECKOUT
from deploy.local.process import program

PEERS = Path(__file__).resolve().parent
INSTALL_SECONDS = 300


def directory() -> Path:
    """Where the benchmark keeps what it installs; it survives a run."""
    return Path(os.environ.get("FLUIDCREW_HOME") or CHECKOUT / ".fluidcrew").absolute() / "bench"


def lock_of(peer: str) -> Path:
    return PEERS / peer / "requirements.txt"


def environment(peer: str) -> Path:
    """The directory of a finished environment of this peer. Raises LeftOut with what the installer says."""
    venv = directory() / peer
    stamp, wanted = venv / "bench-stamp", _fingerprint(peer)
    if stamp.is_file() and stamp.read_text() == wanted and (venv / "bin" / "python").exists():
        return venv
    uv = program("uv")
    _run(peer, uv, "venv", "--quiet", "--clear", "--python", sys.executable, venv)
    _run(
        peer, uv, "pip", "install", "--quiet", "--python", venv / "bin" / "python",
        "--require-hashes", "--only-binary", ":all:", "-r", lock_of(peer),
    )  # fmt: skip
    stamp.write_text(wanted)
    return venv


def _fingerprint(peer: str) -> str:
    return hashlib.sha256(lock_of(peer).read_bytes() + sys.version.encode()).hexdigest()


def _run(peer: str, *command: str | Path) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    except subprocess.CalledProcessError as error:
        last = "\n".join(error.stderr.strip().splitlines()[-3:])
        raise LeftOut(f"{peer} could not be installed: {last}") from error
    except subprocess.TimeoutExpired as error:
        raise LeftOut(
            f"{peer} was not installed within {INSTALL_SECONDS} s: is the package index reachable?"
        ) from error
