"""`fluidcrew up` on fake services: `python -m tests.local.supervise`, configured by the environment."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from deploy.local.environment import BadEnvironment
from deploy.local.home import HomeUnusable
from deploy.local.process import StartFailed
from deploy.local.supervisor import Interrupted, running_stack

FAKE = Path(__file__).with_name("fake_service.py")


async def main() -> None:
    services = ["gateway", "planner", "executor"]
    home = Path(os.environ["FLUIDCREW_HOME"])
    async with running_stack(
        home, {"executor": 2}, services=services, command=lambda name: [sys.executable, str(FAKE), name]
    ) as running:
        print("up", *(part.child.pid for part in running.stack.parts.values()), flush=True)
        await running.for_ever()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except Interrupted as stopped:
        print(f"stopped by {stopped}", flush=True)
    except (BadEnvironment, HomeUnusable, StartFailed) as error:
        sys.exit(f"error: {error}")
