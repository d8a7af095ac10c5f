"""A service as a process of its own, which can be killed and stopped like one."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from deploy.local.environment import CHECKOUT


@asynccontextmanager
async def killable(
    service: str, environ: Mapping[str, str], main: Sequence[str] = ()
) -> AsyncIterator[asyncio.subprocess.Process]:
    """`python -m services.<service>`, or another `main` of its, with `environ` on top of ours; killed at the end if it
    still lives."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *(main or (f"services.{service}",))),
        cwd=CHECKOUT,
        env={**os.environ, **environ},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
