"""Runs of no-op nodes: latency at rest, throughput at saturation."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any
from uuid import uuid4

from bench.figures import Report, milliseconds
from bench.ours import fan
from bench.stack import World, gathered
from contracts.executor import StartRun
from contracts.run_facts import RunCompleted

NODES = len(fan())


def plan(nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"id": n["key"], **{k: v for k, v in n.items() if k != "key"}} for n in nodes]


class Finishes:
    """When each run's completion arrived on the bus."""

    def __init__(self) -> None:
        self.at: dict[str, float] = {}
        self._waiting: dict[str, asyncio.Event] = {}

    async def listen(self, world: World) -> None:
        nats_url = world.running.stack.nats_urls["keeper"]
        import nats

        self._nc = await nats.connect(nats_url)
        await self._nc.subscribe(RunCompleted.pattern(), cb=self._hear)
        await self._nc.flush()

    async def _hear(self, message: Any) -> None:
        run_id = message.subject.rsplit(".", 1)[1]
        self.at.setdefault(run_id, time.perf_counter())
        if event := self._waiting.get(run_id):
            event.set()

    async def of(self, run_id: str) -> float:
        if run_id not in self.at:
            await asyncio.wait_for(self._waiting.setdefault(run_id, asyncio.Event()).wait(), 60)
        return self.at[run_id]

    async def close(self) -> None:
        await self._nc.close()


async def at_rest(report: Report, world: World, runs: int = 60) -> None:
    finishes = Finishes()
    await finishes.listen(world)
    whole: list[float] = []
    for n in range(runs + 5):
        began = time.perf_counter()
        body = {"title": f"bench {n}", "task": plan(fan()), "gate": "off"}
        answer = await world.http.post("/tasks", json=body)
        answer.raise_for_status()
        end = await finishes.of(answer.json()["run_id"])
        if n >= 5:
            whole.append(end - began)
    await finishes.close()
    report.add(
        "10-node run at rest, HTTP to completion",
        milliseconds(whole),
        "POST /tasks with a no-op fan until run.completed is on the bus",
    )
    inner = await _inside(world, runs)
    report.add(
        "10-node run at rest, in the executor",
        milliseconds(inner),
        "commit of the start to commit of the completion, by the database",
    )


async def _inside(world: World, runs: int) -> list[float]:
    import asyncpg

    connection = await asyncpg.connect(world.running.stack.databases["executor"])
    query = (
        "select extract(epoch from ended_at - created_at)::float8 from executor.runs order by created_at desc limit $1"
    )
    rows = await connection.fetch(query, runs)
    await connection.close()
    return [row[0] for row in rows]


async def saturated(report: Report, world: World, runs: int = 300) -> None:
    finishes = Finishes()
    await finishes.listen(world)
    seconds = await _through_the_executor(world, finishes, runs)
    nodes = runs * NODES
    report.add(
        "saturation, engine",
        f"{nodes / seconds:,.0f} nodes/s · {runs / seconds:,.0f} runs/s",
        f"{runs} fans of 10 by rpc, 64 starts in flight, two executors",
    )
    began = time.perf_counter()
    calls = [
        lambda n=n: world.http.post("/tasks", json={"title": f"s {n}", "task": plan(fan()), "gate": "off"})
        for n in range(runs)
    ]
    answers = await gathered(32, calls)
    ids = [a.json()["run_id"] for a in answers]
    await asyncio.gather(*(finishes.of(i) for i in ids))
    seconds = max(finishes.at[i] for i in ids) - began
    report.add(
        "saturation, through the gateway",
        f"{nodes / seconds:,.0f} nodes/s · {runs / seconds:,.0f} runs/s",
        f"{runs} POST /tasks, 32 in flight, task, plan and run each",
    )
    await finishes.close()


async def _through_the_executor(world: World, finishes: Finishes, runs: int) -> float:
    orders = [
        StartRun.model_validate({"command_id": uuid4(), "run_id": uuid4(), "title": f"e {n}", "nodes": fan()})
        for n in range(runs)
    ]
    began = time.perf_counter()
    calls = [
        lambda o=o: world.bus.request(StartRun.subject(), o.model_dump_json().encode(), timeout=30) for o in orders
    ]
    for reply in await gathered(64, calls):
        assert "failure" not in json.loads(reply.data), reply.data
    await asyncio.gather(*(finishes.of(str(o.run_id)) for o in orders))
    return max(finishes.at[str(o.run_id)] for o in orders) - began
