"""The cost of a hop: requests through the gateway against the bare bus, and a fact's way from commit to an SSE client."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from bench.figures import Report, milliseconds
from bench.ours import fan
from bench.runs import plan
from bench.stack import World
from contracts.planner import ListTasks


async def _timed(call: Callable[[], Awaitable[Any]], n: int) -> list[float]:
    samples = []
    for i in range(n + 20):
        began = time.perf_counter()
        await call()
        if i >= 20:
            samples.append(time.perf_counter() - began)
    return samples


async def requests(report: Report, world: World, n: int = 400) -> None:
    body = ListTasks(limit=1).model_dump_json().encode()
    owner = await _timed(lambda: world.bus.request(ListTasks.subject(), body, timeout=5), n)
    http = await _timed(lambda: world.http.get("/tasks", params={"limit": 1}), n)
    bare = await _timed(lambda: world.http.get("/livez"), n)
    report.add(
        "request/reply to the owner over NATS", milliseconds(owner), "list one task: FastStream, one SQL query, answer"
    )
    report.add("the same through the gateway", milliseconds(http), "GET /tasks?limit=1, keep-alive")
    extra = statistics.median(http) - statistics.median(owner)
    share = statistics.median(http) / statistics.median(bare)
    report.add(
        "overhead of the gateway",
        f"{extra * 1000:.1f} ms · {share:.1f} × a route without an owner",
        "median over median, same session (/livez)",
    )


async def publish_to_sse(report: Report, world: World, runs: int = 30) -> None:
    samples: list[float] = []
    for n in range(runs):
        answer = await world.http.post("/tasks", json={"title": f"sse {n}", "task": plan(fan()), "options": {}})
        samples += await _watch(world, answer.json()["run_id"])
    report.add(
        "fact to SSE client",
        milliseconds(samples),
        "ce-time of the fact (before its commit) to arrival at an SSE client",
    )


async def _watch(world: World, run_id: str) -> list[float]:
    """Delays of the facts that came while we were watching."""
    delays: list[float] = []
    connected = time.time()
    async with asyncio.timeout(30), world.http.stream("GET", "/events/stream", params={"run_id": run_id}) as stream:
        async for line in stream.aiter_lines():
            if not line.startswith("data:"):
                continue
            event = json.loads(line[5:])
            at = datetime.fromisoformat(event["timestamp"]).astimezone(UTC).timestamp()
            if at > connected:
                delays.append(time.time() - at)
            if event.get("level") == "RUN_COMPLETED":
                break
    return delays
