"""A stack of its own for the measurements: own data directory, free ports, the product's own supervisor."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx
import nats
from nats.aio.client import Client

from deploy.local.ports import free_port
from deploy.local.supervisor import Running, running_stack

KEY = "bench-key"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class World:
    """The running stack, an HTTP client of its gateway and a connection to its bus as the planner."""

    running: Running
    http: httpx.AsyncClient
    bus: Client


@asynccontextmanager
async def world(
    scale: Mapping[str, int] | None = None, *, home: Path | None = None, **variables: str
) -> AsyncIterator[World]:
    """In a directory that goes with it, unless a `home` is given."""
    with tempfile.TemporaryDirectory(prefix="fluidcrew-bench-") as directory:
        os.chmod(directory, 0o755)
        environment = {**os.environ, **settings(), **variables}
        silent = lambda source, line: None  # noqa: E731
        async with running_stack(home or Path(directory) / "home", scale, environ=environment, log=silent) as running:
            bus = await nats.connect(running.stack.nats_urls["planner"], inbox_prefix="_INBOX_planner")
            headers = {"X-API-Key": KEY}
            async with httpx.AsyncClient(base_url=running.api_url, headers=headers, timeout=60) as http:
                yield World(running, http, bus)
            await bus.close()


def settings() -> dict[str, str]:
    return {
        "PORT": str(free_port()),
        "PREVIEW_PORT": str(free_port()),
        "API_KEY": KEY,
        "LOG_LEVEL": "WARNING",
        "LLM_DEFAULT_PROVIDER": "demo",
        "LLM_DEMO_TOKEN_DELAY_MS": "0",
    }


async def gathered(limit: int, calls: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
    """All calls, at most `limit` at once, in their order."""
    gate = asyncio.Semaphore(limit)

    async def one(call: Callable[[], Awaitable[T]]) -> T:
        async with gate:
            return await call()

    return await asyncio.gather(*(one(call) for call in calls))
