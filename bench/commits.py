"""How many single-row transactions 16 connections commit in a second: the ceiling of any design that commits per node.

python -m bench.commits <url of a database>: a process of its own, so that nothing else shares its event loop.
"""

from __future__ import annotations

import asyncio
import sys
import time

import asyncpg
import uvloop

CONNECTIONS = 16
SECONDS = 3.0


async def rate(url: str) -> float:
    connections = [await asyncpg.connect(url) for _ in range(CONNECTIONS)]
    await connections[0].execute("drop table if exists bench_commits")
    await connections[0].execute(
        "create table bench_commits (id bigint generated always as identity primary key, n int)"
    )
    began = time.perf_counter()
    counts = await asyncio.gather(*(_commit_until(connection, began + SECONDS) for connection in connections))
    took = time.perf_counter() - began
    await connections[0].execute("drop table bench_commits")
    for connection in connections:
        await connection.close()
    return sum(counts) / took


async def _commit_until(connection: asyncpg.Connection, end: float) -> int:
    insert = await connection.prepare("insert into bench_commits (n) values ($1)")
    count = 0
    while time.perf_counter() < end:
        await insert.fetch(count)
        count += 1
    return count


async def measured(url: str) -> float:
    """The same, in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.commits", url, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError("the commit rate could not be measured; see above")
    return float(out)


if __name__ == "__main__":
    print(uvloop.run(rate(sys.argv[1])))
