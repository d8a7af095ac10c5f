"""Commands as a newcomer types them, without a terminal."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

from deploy.local.environment import CHECKOUT
from tests.system.defaults import INHERITED

COMMAND = Path(sys.executable).parent / "fluidcrew"
ANSI = re.compile(r"\x1b\[")


async def said_by(*command: object, expect: int = 0, **environment: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        cwd=CHECKOUT,
        env={k: v for k, v in os.environ.items() if k in INHERITED} | environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), 100)
    except TimeoutError:
        process.kill()
        raise
    text = said.decode()
    assert process.returncode == expect, text
    assert not ANSI.search(text), "no colours where there is no terminal"
    return text
