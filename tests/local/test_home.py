"""The data directory: private, locked, and clear about why it cannot be used."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.environment import CHECKOUT
from deploy.local.home import Home, HomeBusy, HomeUnusable
from deploy.local.ports import free_port


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.prepare()
    return made


def test_a_secret_is_made_once_and_is_private(home: Home) -> None:
    first = home.secret("nats-planner")
    assert home.secret("nats-planner") == first
    assert home.secret("nats-executor") != first
    assert len(first) >= 32
    assert (home.secrets / "nats-planner").stat().st_mode & 0o777 == 0o600
    assert home.secrets.stat().st_mode & 0o777 == 0o700


def test_a_secret_that_a_full_disk_left_empty_is_made_again(home: Home) -> None:
    (home.secrets / "s3").touch()
    assert len(home.secret("s3")) >= 32


def test_only_one_may_hold_the_directory(home: Home) -> None:
    with home.locked(), pytest.raises(HomeBusy, match=rf"pid {os.getpid()}"), home.locked():
        pass
    with home.locked():
        pass


def test_a_port_stays_until_somebody_else_has_it(home: Home) -> None:
    port = home.port("nats")
    assert home.port("nats") == port
    with socket.socket() as thief:
        thief.bind(("127.0.0.1", port))
        thief.listen()
        assert home.port("nats") != port


def test_damaged_notes_are_written_again(home: Home) -> None:
    (home.path / "ports.json").write_text('{"nats": 12')
    assert home.port("nats") == home.port("nats")


def test_a_file_in_the_way_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    with pytest.raises(HomeUnusable, match="set FLUIDCREW_HOME"):
        Home(tmp_path / "home").prepare()


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A directory nobody may write to, not even root: mounted read-only where that is allowed."""
    directory = Path(tempfile.mkdtemp(prefix="fluidcrew-ro-"))
    mount = ["mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", str(directory)]
    mounted = os.geteuid() == 0 and subprocess.run(mount, check=False, capture_output=True).returncode == 0
    if os.geteuid() == 0 and not mounted:
        shutil.rmtree(directory)
        pytest.skip("root writes everywhere, and nothing can be mounted here")
    if not mounted:
        directory.chmod(0o555)
    yield directory
    if mounted:
        subprocess.run(["umount", directory], check=True)
    shutil.rmtree(directory, ignore_errors=True)


def test_an_unwritable_directory_ends_the_start_with_one_line(read_only: Path) -> None:
    given = {"FLUIDCREW_HOME": str(read_only / "home"), "PORT": str(free_port()), "PREVIEW_PORT": str(free_port())}
    command = [sys.executable, "-m", "tests.local.supervise"]
    done = subprocess.run(command, cwd=CHECKOUT, env=os.environ | given, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: cannot write to {read_only / 'home'}")
    assert "FLUIDCREW_HOME" in line
