"""Everything at once: clients that start runs all the time, and faults at random, of every kind there is.

CHAOS_SECONDS makes it last longer than a few seconds; CHAOS_SEED repeats one of the sequences that a failure names.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
import pytest

from chassis.testing.eventually import eventually
from tests.system.api import Api
from tests.system.checks import each_node_completed_once, no_late_calls, the_feed_is_whole
from tests.system.defaults import CONCURRENCY
from tests.system.ledger import Ledger, Plan
from tests.system.world import World

SECONDS = float(os.environ.get("CHAOS_SECONDS", "10"))
SEED = int(os.environ.get("CHAOS_SEED") or random.randrange(10**6))
CLIENTS, EXECUTORS = 6, 2


@dataclass
class Chaos:
    """What was done to the stack, and what it accepted meanwhile."""

    world: World
    rng: random.Random
    done: list[str] = field(default_factory=list)
    accepted: dict[str, Plan] = field(default_factory=dict)
    unexpected: list[str] = field(default_factory=list)
    ends_at: float = field(default_factory=lambda: time.monotonic() + SECONDS)

    @property
    def over(self) -> bool:
        return time.monotonic() > self.ends_at

    def faults(self) -> dict[str, Callable[[], None]]:
        world = self.world
        single = ("planner", "executor", "executor.2", "gateway", "nats", "postgres", "s3")
        found: dict[str, Callable[[], None]] = {name: lambda name=name: world.restart(name) for name in single}
        return found | {"the broker's disk": world.lose_the_broker_s_disk, "everything": self._everything}

    def _everything(self) -> None:
        services = ("planner", "executor", "executor.2", "gateway")
        self.world.kill("nats", "postgres", *services)
        self.world.restart("nats", "postgres")
        self.world.launch(*services)

    async def rage(self) -> None:
        faults = self.faults()
        while not self.over:
            await asyncio.sleep(self.rng.uniform(0.2, 2))  # any moment
            name = self.rng.choice([*faults, "a frozen executor"])
            self.done.append(name)
            if name in faults:
                faults[name]()
            else:
                self.world.freeze("executor")
                await asyncio.sleep(self.rng.uniform(0.5, 3.5))  # shorter and longer than its lease
                self.world.thaw("executor")

    async def submit(self, api: Api) -> None:
        while not self.over:
            plan = Plan.layered(layers=3, width=3, words=f"slow:{self.rng.uniform(0.02, 0.4):.2f}")
            run_id = await self._accepted(api, plan)
            self.accepted[run_id] = plan
            await api.ended(run_id, timeout=90)

    async def _accepted(self, api: Api, plan: Plan) -> str:
        """As a good client does: the same request under the same key until it is answered."""
        body, key = {"title": f"Chaos {plan.name}", "task": plan.nodes}, {"Idempotency-Key": plan.name}
        while True:
            try:
                answer = await api.http.post("/tasks", json=body, headers=key)
                if answer.status_code == 202:
                    return str(answer.json()["run_id"])
                if answer.status_code not in (409, 503):  # in flight, away
                    self.unexpected.append(f"{answer.status_code} {answer.text}")
            except httpx.TransportError:
                pass  # the gateway is the one that is down
            await asyncio.sleep(0.1)


@pytest.mark.timeout(150 + 5 * SECONDS)
async def test_whatever_happens_every_accepted_run_completes_and_no_finished_node_is_repeated(
    world: World, api: Api, ledger: Ledger
) -> None:
    world.launch("executor.2")
    chaos = Chaos(world, random.Random(SEED))
    clients = [asyncio.create_task(chaos.submit(api)) for _ in range(CLIENTS)]
    await chaos.rage()
    await asyncio.gather(*clients)
    story = f"CHAOS_SEED={SEED}: {', '.join(chaos.done)}; {len(chaos.accepted)} runs"
    assert not chaos.unexpected, story
    calls = await ledger.by_plan()
    for run_id, plan in chaos.accepted.items():
        told = await api.told_all(run_id)
        each_node_completed_once(plan, told)
        no_late_calls(plan, calls[plan.name], told)
    made = sum(len(of_node) for plan in chaos.accepted.values() for of_node in calls[plan.name].values())
    needed = sum(len(plan.keys) for plan in chaos.accepted.values())
    assert made <= needed + len(chaos.done) * EXECUTORS * CONCURRENCY, story
    await the_feed_is_whole(world, api)
    for owner in ("planner", "executor", "gateway"):  # one that died last may still be on its way back
        page = await eventually(lambda owner=owner: api.get(f"/admin/dead-letters/{owner}"), timeout=30)
        assert page["total"] == 0, story
