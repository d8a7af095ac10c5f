"""A peer's driver that needs no environment: it says what it was asked, and prints as libraries do."""

from __future__ import annotations

import asyncio

from bench.peers.protocol import serve


class Echo:
    async def one(self, wait: float) -> None:
        print("a library talks on stdout")
        await asyncio.sleep(wait)

    async def many(self, runs: int, wait: float) -> float:
        return runs * wait

    async def chain(self, steps: int, wait: float) -> None:
        raise ConnectionError(f"lost after {steps} steps")

    async def close(self) -> None:
        print("closed")


if __name__ == "__main__":
    asyncio.run(serve(Echo(), "pytest"))
