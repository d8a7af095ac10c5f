"""What the gate costs a node: from its result to its release, reviews per second, and calls to models per node."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import uuid4

import nats

from bench.figures import Report, milliseconds
from bench.ours import chain, fan
from bench.runs import Finishes
from bench.stack import World, gathered
from contracts.executor import GetRun, StartRun
from contracts.feedback import VerdictGiven
from contracts.message import Event
from contracts.permissions import KEEPER, inbox_prefix
from contracts.plan import Gate
from contracts.run_facts import NodeCompleted, NodeReviewing

STEPS = 10


class Gated:
    """When each node's result, verdict and release arrived on the bus, at one listener."""

    def __init__(self) -> None:
        self.at: dict[type[Event], dict[str, float]] = {NodeReviewing: {}, VerdictGiven: {}, NodeCompleted: {}}

    async def listen(self, world: World) -> None:
        self._nc = await nats.connect(world.running.stack.nats_urls[KEEPER], inbox_prefix=inbox_prefix(KEEPER))
        for kind in self.at:
            await self._nc.subscribe(kind.pattern(), cb=partial(self._hear, kind))
        await self._nc.flush()

    async def _hear(self, kind: type[Event], message: Any) -> None:
        self.at[kind].setdefault(json.loads(message.data)["node_id"], time.perf_counter())

    def waits(self) -> list[float]:
        """Of each node, from its result to its release."""
        results, releases = self.at[NodeReviewing], self.at[NodeCompleted]
        return [releases[node] - began for node, began in results.items() if node in releases]

    def rate(self) -> float:
        verdicts = self.at[VerdictGiven].values()
        return len(verdicts) / (max(verdicts) - min(self.at[NodeReviewing].values()))

    async def close(self) -> None:
        await self._nc.close()


async def overhead(report: Report, world: World, runs: int = 20) -> None:
    """One run at a time, on a stack where no model reviews."""
    await _through(world, [chain(STEPS, "agent")] * 3)
    gated = Gated()
    await gated.listen(world)
    await _through(world, [chain(STEPS, "agent")] * runs)
    await gated.close()
    report.add(
        "gate, code checks only, per node",
        milliseconds(gated.waits()),
        f"node.reviewing to node.completed at one listener; {runs} chains of {STEPS}, one at a time",
    )


async def throughput(report: Report, world: World, runs: int = 50) -> None:
    gated = Gated()
    await gated.listen(world)
    await _through(world, [fan("agent")] * runs, at_once=runs)
    await gated.close()
    nodes = runs * len(fan())
    report.add(
        "reviews per second, code checks only",
        f"{gated.rate():,.0f} reviews/s",
        f"{nodes} nodes of {runs} fans at once, first result to last verdict; two executors, one feedback",
    )


async def calls(report: Report, world: World, runs: int = 3) -> None:
    """On a stack with a reviewing model."""
    made = 0
    for run_id in await _through(world, [chain(STEPS, "agent")] * runs):
        reply = await world.bus.request(GetRun.subject(), GetRun(run_id=run_id).model_dump_json().encode(), timeout=10)
        made += json.loads(reply.data)["answer"]["summary"]["llm_request_count"]
    report.add(
        "model calls per node, with a reviewing model",
        f"{made / (runs * STEPS):.1f}",
        "the author's and the reviewer's, as booked to the run; 1.0 with code checks only or the gate off",
    )


async def _through(world: World, graphs: Sequence[list[dict[str, Any]]], at_once: int = 1) -> list[str]:
    """Runs them with the gate on, and waits for each end."""
    finishes = Finishes()
    await finishes.listen(world)

    async def one(nodes: list[dict[str, Any]]) -> str:
        order = StartRun.model_validate(
            {"command_id": uuid4(), "run_id": uuid4(), "title": "gated", "nodes": nodes, "gate": Gate.GATE}
        )
        reply = await world.bus.request(StartRun.subject(), order.model_dump_json().encode(), timeout=30)
        assert not json.loads(reply.data).get("failure"), reply.data
        await finishes.of(str(order.run_id))
        return str(order.run_id)

    ended = await gathered(at_once, [partial(one, nodes) for nodes in graphs])
    await asyncio.sleep(0.1)  # what follows from the last fact arrives
    await finishes.close()
    return ended
