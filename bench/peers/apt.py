"""Programs of the machine's distribution: those that are there, or their packages unpacked beside us."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.contestant import LeftOut
from bench.peers import environments

APT_SECONDS = 180


@dataclass(frozen=True, slots=True)
class Program:
    path: Path
    libraries: str = ""  # for LD_LIBRARY_PATH

    def environment(self) -> dict[str, str]:
        return os.environ | ({"LD_LIBRARY_PATH": self.libraries} if self.libraries else {})

    def says(self, *arguments: str) -> str:
        """All of its output."""
        shown = subprocess.run(
            [self.path, *arguments], env=self.environment(), capture_output=True, text=True, check=False
        )
        return shown.stdout + shown.stderr


def found(package: str, binary: str, purpose: str) -> Program:
    """`binary` is where the package has it, like usr/bin/wrk. Raises LeftOut when there is none and apt cannot bring one."""
    if path := shutil.which(Path(binary).name):
        return Program(Path(path))
    advice = f"install {package} {purpose}"
    unpacked = environments.directory() / package
    if not (unpacked / binary).exists():
        _unpack(package, unpacked, advice)
    libraries = sorted({str(library.parent) for library in unpacked.glob("usr/lib/**/*.so*")})
    return Program(unpacked / binary, ":".join(libraries))


def _unpack(package: str, target: Path, advice: str) -> None:
    """Unpacked and not installed: nothing of the system changes, and no daemon is started."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise LeftOut(f"there is no {package} here and no apt to fetch it with; {advice}")
    missing = _missing_packages(package, advice)
    unfinished = target.with_name(f"{package}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    unfinished.chmod(0o777)  # apt downloads as a user of its own when we are root
    _run(["apt-get", "download", *missing], unfinished, advice)
    for archive in unfinished.glob("*.deb"):
        _run(["dpkg-deb", "-x", archive.name, "."], unfinished, advice)
        archive.unlink()
    unfinished.chmod(0o755)
    unfinished.rename(target)


def _missing_packages(package: str, advice: str) -> list[str]:
    for refresh in (False, True):
        if refresh and os.geteuid() == 0:
            _run(["apt-get", "update", "-qq"], Path("/"), advice)
        simulated = subprocess.run(
            ["apt-get", "--simulate", "--no-install-recommends", "install", package],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if names := re.findall(r"^Inst (\S+)", simulated.stdout, re.MULTILINE):
            return names
    raise LeftOut(f"apt does not know {package} (root may run apt-get update); {advice}")


def _run(command: list[str], directory: Path, advice: str) -> None:
    try:
        subprocess.run(command, cwd=directory, check=True, capture_output=True, text=True, timeout=APT_SECONDS)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        said = str(getattr(error, "stderr", "") or "").strip().splitlines()[-1:]
        raise LeftOut(f"`{' '.join(command)}` failed ({' '.join(said) or error}); {advice}") from error
