"""DBOS's driver: one process that starts workflows and runs their steps, each recorded in Postgres."""

from __future__ import annotations

import asyncio
import os
import time

import uvloop
from dbos import DBOS, DBOSConfig

from bench.peers.protocol import WIDTH, serve

POOL = 20


@DBOS.step()  # type: ignore[untyped-decorator]
async def node(number: int, wait: float) -> dict[str, int]:
    if wait:
        await asyncio.sleep(wait)
    return {"number": number}


@DBOS.workflow()  # type: ignore[untyped-decorator]
async def fan(wait: float) -> int:
    await node(0, wait)
    results = await asyncio.gather(*(node(n, wait) for n in range(WIDTH)))
    await node(len(results), wait)
    return len(results)


@DBOS.workflow()  # type: ignore[untyped-decorator]
async def steps_in_turn(steps: int, wait: float) -> int:
    for n in range(steps):
        await node(n, wait)
    return steps


class Dbos:
    async def one(self, wait: float) -> None:
        handle = await DBOS.start_workflow_async(fan, wait)
        assert await handle.get_result() == WIDTH

    async def many(self, runs: int, wait: float) -> float:
        """Started inside the clock: a workflow's start is one commit of the twelve it makes."""
        began = time.perf_counter()
        await asyncio.gather(*(self.one(wait) for _ in range(runs)))
        return time.perf_counter() - began

    async def chain(self, steps: int, wait: float) -> None:
        handle = await DBOS.start_workflow_async(steps_in_turn, steps, wait)
        assert await handle.get_result() == steps

    async def close(self) -> None:
        DBOS.destroy()


async def main() -> None:
    config = DBOSConfig(
        name="bench",
        system_database_url=os.environ["BENCH_DATABASE_URL"],
        sys_db_pool_size=POOL,
        log_level="ERROR",
        enable_otlp=False,
    )
    DBOS(config=config)
    DBOS.launch()
    await serve(Dbos(), "dbos")


if __name__ == "__main__":
    uvloop.run(main())
