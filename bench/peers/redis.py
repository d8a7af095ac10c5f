"""A Redis of our own for Celery: the machine's redis-server, or the packages of its distribution unpacked beside it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.contestant import LeftOut
from bench.peers import apt
from deploy.local.parts import greets
from deploy.local.ports import free_port
from deploy.local.process import Child

START_SECONDS = 10.0


def found() -> apt.Program:
    """Raises LeftOut."""
    return apt.found("redis-server", "usr/bin/redis-server", "to have Celery in the comparison")


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
        version = re.search(r"v=(\S+)", program.says("--version"))[1]  # type: ignore[index]
        yield Redis(f"redis://127.0.0.1:{port}/0", child.pid, f"redis-server {version}")
    finally:
        await child.stop()
