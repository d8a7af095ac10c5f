"""A Redis of our own for Celery: the machine's redis-server, or the packages of its distribution unpacked beside it."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.contestant import LeftOut
from bench.peers import environments
from deploy.local.home import free_port
from deploy.local.parts import greets
from deploy.local.process import Child

ADVICE = "install redis-server to have Celery in the comparison"
APT_SECONDS = 180
START_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Program:
    path: Path
    libraries: str = ""  # for LD_LIBRARY_PATH

    def version(self) -> str:
        shown = subprocess.run(
            [self.path, "--version"], env=self.environment(), capture_output=True, text=True, check=True
        )
        return "redis-server " + re.search(r"v=(\S+)", shown.stdout)[1]  # type: ignore[index]

    def environment(self) -> dict[str, str]:
        return os.environ | ({"LD_LIBRARY_PATH": self.libraries} if self.libraries else {})


def found() -> Program:
    """Raises LeftOut when there is none and apt cannot bring one."""
    if path := shutil.which("redis-server"):
        return Program(Path(path))
    unpacked = environments.directory() / "redis"
    if not (unpacked / "usr/bin/redis-server").exists():
        _unpack(unpacked)
    libraries = sorted({str(library.parent) for library in unpacked.glob("usr/lib/**/*.so*")})
    return Program(unpacked / "usr/bin/redis-server", ":".join(libraries))


def _unpack(target: Path) -> None:
    """Unpacked and not installed: nothing of the system changes, and no daemon is started."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise LeftOut(f"there is no redis-server here and no apt to fetch it with; {ADVICE}")
    missing = _missing_packages()
    unfinished = target.with_name("redis.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    unfinished.chmod(0o777)  # apt downloads as a user of its own when we are root
    _run(["apt-get", "download", *missing], unfinished)
    for package in unfinished.glob("*.deb"):
        _run(["dpkg-deb", "-x", package.name, "."], unfinished)
        package.unlink()
    unfinished.chmod(0o755)
    unfinished.rename(target)


def _missing_packages() -> list[str]:
    for refresh in (False, True):
        if refresh and os.geteuid() == 0:
            _run(["apt-get", "update", "-qq"], Path("/"))
        simulated = subprocess.run(
            ["apt-get", "--simulate", "--no-install-recommends", "install", "redis-server"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if names := re.findall(r"^Inst (\S+)", simulated.stdout, re.MULTILINE):
            return names
    raise LeftOut(f"apt does not know redis-server (root may run apt-get update); {ADVICE}")


def _run(command: list[str], directory: Path) -> None:
    try:
        subprocess.run(command, cwd=directory, check=True, capture_output=True, text=True, timeout=APT_SECONDS)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        said = str(getattr(error, "stderr", "") or "").strip().splitlines()[-1:]
        raise LeftOut(f"`{' '.join(command)}` failed ({' '.join(said) or error}); {ADVICE}") from error


@dataclass(frozen=True, slots=True)
class Redis:
    url: str
    pid: int
    version: str


@asynccontextmanager
async def redis(directory: Path) -> AsyncIterator[Redis]:
    """With an append-only file that is synced every second."""
    program, port = found(), free_port()
    place: list[str | Path] = ["--port", str(port), "--bind", "127.0.0.1", "--dir", directory]
    durable = ["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
    child = Child("redis", [program.path, *place, *durable], directory / "redis.log", env=program.environment())
    child.launch()
    try:
        async with asyncio.timeout(START_SECONDS):
            while not greets(port):
                if not child.running:
                    raise LeftOut(f"redis-server does not start: {child.log_tail(2)}")
                await asyncio.sleep(0.05)
        assert child.pid is not None
        yield Redis(f"redis://127.0.0.1:{port}/0", child.pid, program.version())
    finally:
        await child.stop()
