"""What root keeps outside the checkout: copies of Postgres that go when nobody uses them, and databases that stay."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.environment import CHECKOUT
from deploy.local.shared import INSTALLATION, LIBRARIES, OWNER, PACKAGE, copy_of, database_of, remove_unused, report

USE = """
import sys
from pathlib import Path
from deploy.local.shared import copy_of
print(copy_of(Path(sys.argv[1]), Path(sys.argv[2])), flush=True)
sys.stdin.read()
"""


def wheel(root: Path, program: bytes) -> Path:
    """The files of an installed wheel, as far as they matter here."""
    site = root / "site-packages"
    installation = site / PACKAGE / INSTALLATION
    (installation / "bin").mkdir(parents=True)
    (installation / "bin" / "postgres").write_bytes(program)
    (site / LIBRARIES).mkdir()
    (site / LIBRARIES / "libpq.so").write_text("a library")
    return installation


class User:
    """A process that uses a copy for as long as it lives."""

    def __init__(self, installation: Path, shared: Path) -> None:
        command = [sys.executable, "-c", USE, str(installation), str(shared)]
        self.process = subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.bin = Path(self.process.stdout.readline().strip())

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    directory = tmp_path / "shared"
    directory.mkdir()
    return directory


@pytest.fixture
def old(tmp_path: Path, shared: Path) -> Iterator[User]:
    user = User(wheel(tmp_path / "old", b"17"), shared)
    yield user
    user.kill()


def test_a_copy_keeps_the_layout_of_the_wheel_and_can_be_read_by_anybody(tmp_path: Path, shared: Path) -> None:
    found = copy_of(wheel(tmp_path, b"18"), shared)
    assert (found / "postgres").read_bytes() == b"18"
    assert (found.parents[2] / LIBRARIES / "libpq.so").is_file()
    assert (found.parents[2]).stat().st_mode & 0o777 == 0o755
    assert [path.name for path in shared.iterdir()] == [found.parents[2].name]


def test_an_old_version_goes_as_soon_as_nobody_uses_it_however_that_one_ended(
    tmp_path: Path, shared: Path, old: User
) -> None:
    (shared / "binaries-unfinished.4711").mkdir()
    new = copy_of(wheel(tmp_path / "new", b"18.4"), shared)
    assert remove_unused(shared) == [shared / "binaries-unfinished.4711"]
    assert (old.bin / "postgres").read_bytes() == b"17", "a running stack keeps what it runs from"
    old.kill()
    assert remove_unused(shared) == [old.bin.parents[2]]
    assert [path.name for path in shared.iterdir()] == [new.parents[2].name]


def test_a_server_that_was_started_by_a_version_without_locks_keeps_its_copy(tmp_path: Path, shared: Path) -> None:
    copy = shared / "binaries-old"
    copy.mkdir()
    program = copy / "sleep"
    program.write_bytes(Path("/bin/sleep").resolve().read_bytes())
    program.chmod(0o755)
    with subprocess.Popen([program, "60"]) as running:
        assert remove_unused(shared) == []
        running.kill()
        running.wait()
    assert remove_unused(shared) == [copy]


def test_a_copy_that_was_removed_meanwhile_is_made_again(tmp_path: Path, shared: Path, old: User) -> None:
    old.kill()
    remove_unused(shared)
    again = User(tmp_path / "old" / "site-packages" / PACKAGE / INSTALLATION, shared)
    assert (again.bin / "postgres").read_bytes() == b"17"
    again.kill()


def test_databases_stay_and_are_named_with_the_data_directory_they_belong_to(tmp_path: Path, shared: Path) -> None:
    living, gone, used = tmp_path / "living", tmp_path / "gone", tmp_path / "used"
    kept = []
    for home in (living, gone, used):
        home.mkdir()
        directory = database_of(home, shared)
        directory.mkdir()
        (directory / OWNER).write_text(f"{home}\n")
        kept.append(directory)
    (gone / "postgres.id").unlink()
    (used / "postgres.id").unlink()
    (kept[2] / "data").mkdir()
    (kept[2] / "data" / "postmaster.pid").touch()
    told = {line.split()[0]: line for line in report(shared)}
    assert told[str(kept[0])].endswith(f"it is the database of {living}")
    assert told[str(kept[1])].endswith(f"rm -r {kept[1]}")
    assert "rm -r" not in told[str(kept[2])], "nobody is told to remove what is in use"
    assert all(directory.is_dir() for directory in kept)
