"""The command line as a process in an environment of its own, and a gateway for it to talk to."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from chassis.testing.loopback_http import LoopbackHttp
from deploy.local.environment import CHECKOUT
from tests.cli.fake_gateway import FakeGateway


@dataclass(frozen=True, slots=True)
class Ended:
    code: int
    out: str
    err: str


Cli = Callable[..., Awaitable[Ended]]


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """Runs `python -m fluidcrew …` in an environment of its own, with a data directory in which nothing runs."""

    async def run(*arguments: str, module: str = "fluidcrew", stdin: bytes = b"", **environ: str) -> Ended:
        env = {
            "PATH": os.environ["PATH"],
            "FLUIDCREW_HOME": str(tmp_path / "home"),
            "PYTHONPATH": str(CHECKOUT),
            "LC_ALL": "C.UTF-8",
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            *arguments,
            env=env | environ,
            cwd=tmp_path,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, err = await process.communicate(stdin)
        finally:
            if process.returncode is None:  # the test was given up
                process.kill()
        return Ended(process.returncode or 0, out.decode(), err.decode())

    return run


@pytest.fixture
async def gateway() -> AsyncIterator[FakeGateway]:
    fake = FakeGateway()
    async with LoopbackHttp(fake.handle) as server:
        fake.port = server.port
        yield fake
