"""How a driver is spoken to: a line of JSON in, a line of JSON out. Runs in the peers' environments: stdlib only."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from importlib.metadata import version
from typing import Any, Protocol

WIDTH = 8  # the fan is root → WIDTH in parallel → join


class System(Protocol):
    """What a driver must be able to do. `wait` is how long each node sleeps; every result is durable."""

    async def one(self, wait: float) -> None:
        """A fan, from its start to its result."""

    async def many(self, runs: int, wait: float) -> float:
        """Fans at saturation; the seconds on the clock."""

    async def chain(self, steps: int, wait: float) -> None: ...

    async def close(self) -> None: ...


def channel() -> Callable[[dict[str, Any]], None]:
    """Answers leave by what was stdout; whatever a library prints goes to stderr from now on."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return lambda answer: print(json.dumps(answer), file=out)


async def serve(system: System, *packages: str) -> None:
    """Until the end of stdin."""
    await answer(partial(_carried_out, system), *packages)
    await system.close()


async def answer(carry_out: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]], *packages: str) -> None:
    """Until the end of stdin: first the versions of these packages, then an answer to each order."""
    say, loop = channel(), asyncio.get_running_loop()
    say({"versions": {package: version(package) for package in packages}})
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        try:
            say(await carry_out(json.loads(line)))
        except Exception as error:  # the benchmark says it, and goes on with the others
            say({"error": f"{type(error).__name__}: {error}"})


async def _carried_out(system: System, order: dict[str, Any]) -> dict[str, Any]:
    wait = order["wait"]
    match order["do"]:
        case "idle":
            return {"latencies": [await _timed(system.one, wait) for _ in range(order["runs"])]}
        case "full":
            seconds = await system.many(order["runs"], wait)
            await asyncio.sleep(order["settle"])
            return {"seconds": seconds}
        case "chain":
            return {"seconds": await _timed(system.chain, order["steps"], wait)}
        case unknown:
            raise ValueError(f"there is no order {unknown!r}")


async def _timed(call: Callable[..., Any], *given: Any) -> float:
    began = time.perf_counter()
    await call(*given)
    return time.perf_counter() - began
