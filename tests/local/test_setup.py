"""The setup on a copy of the checkout: locked packages, a second run that does nothing, and repair of a broken first one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local.environment import CHECKOUT

PACKAGES = {"runtime": ["sniffio"], "dev": ["sniffio", "iniconfig"]}


def block(package: str) -> str:
    """A package with its hashes, as the real lock has it."""
    text = (CHECKOUT / "requirements" / "dev.txt").read_text()
    found = re.search(rf"^{package}==.*?(?=^\S|\Z)", text, re.DOTALL | re.MULTILINE)
    assert found
    return found.group(0)


class Copy:
    """A checkout with a lock of one or two small packages."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("deploy", "fluidcrew"):
            shutil.copytree(CHECKOUT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        (root / "requirements").mkdir()
        shutil.copy(CHECKOUT / "requirements" / "bootstrap.txt", root / "requirements")
        (root / "requirements" / "embedding.txt").write_text(block("anyio"))
        for group, packages in PACKAGES.items():
            (root / "requirements" / f"{group}.txt").write_text("".join(block(p) for p in packages))

    def setup(self, group: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "fluidcrew.setup_env", group, *options],
            cwd=self.root,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def installed(self) -> set[str]:
        (site,) = (self.root / ".venv" / "lib").glob("python*/site-packages")
        return {p.name.split("-")[0] for p in site.glob("*.dist-info")}

    @property
    def stamp(self) -> Path:
        return self.root / ".venv" / "fluidcrew-stamp.json"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    made = Copy(tmp_path_factory.mktemp("checkout") / "fluidcrew")
    done = made.setup("runtime")
    assert done.returncode == 0, done.stderr
    return made


def test_the_locked_packages_are_installed_and_the_command_is_there(copy: Copy) -> None:
    assert copy.setup("runtime").returncode == 0
    assert {"sniffio", "uv"} <= copy.installed
    assert os.access(copy.root / ".venv" / "bin" / "fluidcrew", os.X_OK)


def test_what_the_embedding_model_asks_for_is_left_out(copy: Copy) -> None:
    assert "anyio" in copy.installed
    assert "idna" not in copy.installed


def test_a_second_run_does_nothing_and_says_nothing(copy: Copy) -> None:
    copy.setup("runtime")
    before = copy.stamp.stat().st_mtime_ns
    done = copy.setup("runtime")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert copy.stamp.stat().st_mtime_ns == before


def test_a_larger_group_stays_when_the_smaller_one_is_asked_for(copy: Copy) -> None:
    assert copy.setup("dev").returncode == 0
    assert copy.setup("runtime").stdout == ""
    assert json.loads(copy.stamp.read_text())["group"] == "dev"
    assert "iniconfig" in copy.installed


def test_a_new_lock_takes_no_larger_group_away(copy: Copy) -> None:
    assert copy.setup("dev").returncode == 0
    for group in PACKAGES:
        with (copy.root / "requirements" / f"{group}.txt").open("a") as lock:
            lock.write("# another lock\n")
    assert copy.setup("runtime").returncode == 0
    assert json.loads(copy.stamp.read_text())["group"] == "dev"
    assert "iniconfig" in copy.installed


def test_what_an_interrupted_run_left_half_is_repaired(copy: Copy) -> None:
    copy.setup("runtime")
    (package,) = (copy.root / ".venv" / "lib").glob("python*/site-packages/sniffio/__init__.py")
    package.unlink()
    copy.stamp.unlink()  # as during an installation
    (copy.root / ".venv" / "fluidcrew-unfinished").touch()
    assert copy.setup("runtime").returncode == 0
    assert package.is_file()
    assert not (copy.root / ".venv" / "fluidcrew-unfinished").exists()


def test_a_broken_virtual_environment_is_made_anew(copy: Copy) -> None:
    (copy.root / ".venv" / "bin" / "python").unlink()
    done = copy.setup("runtime")
    assert done.returncode == 0, done.stderr
    assert "sniffio" in copy.installed


def test_a_package_that_is_not_what_was_locked_is_refused(copy: Copy) -> None:
    copy.setup("runtime")
    lock = copy.root / "requirements" / "runtime.txt"
    honest = lock.read_text()
    lock.write_text(re.sub(r"sha256:[0-9a-f]{64}", "sha256:" + "0" * 64, honest))
    (copy.root / ".venv" / "fluidcrew-unfinished").touch()  # so that it is fetched, not found installed
    copy.stamp.unlink()
    try:
        done = copy.setup("runtime")
        assert done.returncode == 1
        assert "hash" in done.stderr.lower()
        assert not copy.stamp.exists()
    finally:
        lock.write_text(honest)


def test_a_machine_that_is_not_ready_is_told_so_before_anything_is_downloaded(tmp_path: Path) -> None:
    fresh = Copy(tmp_path / "fluidcrew")
    done = fresh.setup("runtime", "--starting", PORT="80a")
    assert done.returncode == 1
    assert "PORT='80a' is no port" in done.stderr
    assert not (fresh.root / ".venv").exists()


def test_a_dotenv_that_cannot_be_read_is_named_by_its_line(tmp_path: Path) -> None:
    fresh = Copy(tmp_path / "fluidcrew")
    (fresh.root / ".env").write_text("PORT 8000\n")
    done = fresh.setup("runtime", "--starting")
    assert done.returncode == 1
    assert done.stderr.startswith("setup: .env:1: expected NAME=value")
