"""The place on the disk for files at work: it goes with its process, and nobody else's does."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
from pathlib import Path

import pytest

from chassis.scratch import PREFIX, Scratch, sweep
from contracts.errors import RetryLater

DIES = """
import os, pathlib, sys
from chassis.scratch import Scratch
scratch = Scratch("publisher", pathlib.Path(sys.argv[1]))
(scratch.path / "archive").write_bytes(b"x")
os.kill(os.getpid(), 9)
"""


def left(directory: Path) -> set[str]:
    return set(os.listdir(directory))


async def test_a_room_is_gone_after_its_use_whatever_happened_in_it(tmp_path: Path) -> None:
    scratch = Scratch("publisher", tmp_path)

    async def use() -> None:
        async with scratch.room() as room:
            (room / "file").write_bytes(b"x")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await use()
    assert left(scratch.path) == {"lock"}
    await scratch.close()
    assert left(tmp_path) == set()


@pytest.mark.parametrize(
    ("error", "becomes"),
    [(OSError(errno.ENOSPC, "No space left"), RetryLater), (PermissionError(errno.EACCES, "denied"), PermissionError)],
)
async def test_a_full_disk_is_a_matter_of_time(error: OSError, becomes: type[Exception], tmp_path: Path) -> None:
    scratch = Scratch("publisher", tmp_path)
    with pytest.raises(becomes, match="no room for a file" if becomes is RetryLater else "denied"):
        async with scratch.room():
            raise error
    await scratch.close()


async def test_what_a_killed_process_left_goes_and_nobody_elses_does(tmp_path: Path) -> None:
    alive = Scratch("publisher", tmp_path)
    dying = await asyncio.create_subprocess_exec(sys.executable, "-c", DIES, str(tmp_path))
    await dying.wait()
    [killed] = left(tmp_path) - {alive.path.name}
    for name in ("something-else", f"{PREFIX}publisher-starting", f"{PREFIX}publisher-abandoned"):
        (tmp_path / name).mkdir()
    os.utime(tmp_path / f"{PREFIX}publisher-abandoned", (0, 0))
    sweep("publisher", tmp_path)
    assert killed not in left(tmp_path)
    assert left(tmp_path) == {alive.path.name, "something-else", f"{PREFIX}publisher-starting"}
    await alive.close()
