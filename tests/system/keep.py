"""The keeper as a process of its own: `python -m tests.system.keep`, with its NATS_URL."""

from __future__ import annotations

import asyncio
import os
import signal

from chassis.keeper import Keeper


async def main() -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    keeper = Keeper(os.environ["NATS_URL"], replicas=int(os.environ.get("NATS_REPLICAS", "1")))
    await keeper.run(stop)
    await keeper.close()


if __name__ == "__main__":
    asyncio.run(main())
