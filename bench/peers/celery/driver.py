"""Celery's driver: chords through Redis. It is the client; the worker is a process of its own."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from uuid import uuid4

from celery import chain, group

from bench.peers.celery.tasks import app, join, node
from bench.peers.protocol import WIDTH, serve

PATIENCE = 120
POLL_SECONDS = 0.005


def fan(wait: float, queue: str = "celery") -> Any:
    first = node.s(None, wait).set(queue=queue)
    return chain(first, group(node.s(wait) for _ in range(WIDTH)), join.s(wait))


def result_of(started: Any) -> dict[str, Any]:
    result: dict[str, Any] = started.get(timeout=PATIENCE, interval=POLL_SECONDS)
    return result


class Celery:
    async def one(self, wait: float) -> None:
        assert result_of(fan(wait).apply_async())["joined"] == WIDTH

    async def many(self, runs: int, wait: float) -> float:
        """All starts lie in Redis, in a queue that nobody reads; the clock starts when the worker is told to read it."""
        backlog = f"backlog-{uuid4()}"
        started = [fan(wait, backlog).apply_async() for _ in range(runs)]
        began = time.time()
        app.control.add_consumer(backlog, reply=False)
        results = [result_of(one) for one in started]
        assert all(result["joined"] == WIDTH for result in results)
        app.control.cancel_consumer(backlog, reply=False)
        return float(max(result["ended_at"] for result in results)) - began

    async def chain(self, steps: int, wait: float) -> None:
        result_of(chain(node.s(None, wait), *(node.s(wait) for _ in range(steps - 1))).apply_async())

    async def close(self) -> None:
        app.close()


if __name__ == "__main__":
    asyncio.run(serve(Celery(), "celery", "redis"))
