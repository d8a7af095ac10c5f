"""The scenarios of faults that come from outside: what is running, what is done to it, and how much of both."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Self

from tests.chaos import faults
from tests.chaos.faults import Fault
from tests.chaos.stage import Stage
from tests.system.ledger import Plan

CLIENTS = 6
WALKED = 4
Play = Callable[[Stage, int], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """`amount` of faults or operations: in `make test` (0: not there), in `make chaos`, in `make chaos-long`."""

    name: str
    title: str
    play: Play
    amount: tuple[int, int, int]
    about: dict[str, Any] = field(default_factory=dict)  # what the rules need to know
    needs: str = ""  # a path of the API without which it cannot be played
    seeds: int = 1  # in the long run


class Load:
    """Clients that start runs and drafts, one after the other, for as long as `busy` lasts."""

    def __init__(self, stage: Stage, least: int = 0, clients: int = CLIENTS) -> None:
        self._stage, self._least, self._count = stage, least, clients
        self._over = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._clients = [asyncio.create_task(self._submit(f"client {n}")) for n in range(self._count)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over.set()
        await asyncio.gather(*self._clients)

    async def _submit(self, name: str) -> None:
        stage, dice = self._stage, self._stage.dice(name)
        while not self._over.is_set() or len(stage.runs) < self._least:
            if dice.random() < 0.3:
                stage.drafts.append(await stage.client.draft())
            plan = errand(layers=3, width=3, words=f"slow:{dice.uniform(0.02, 0.3):.2f}")
            run = await stage.client.launch(plan)
            stage.runs.append(run)
            if len(stage.runs) % 3 == 1 and stage.tasks_follow:  # else its story may go on after its end
                await stage.watch(run)
            await ended(stage, run)


def errand(layers: int, width: int, words: str, say: str = "") -> Plan:
    """Agents' work that ends with steps for which no model is called: a turn of nothing but these is one statement."""
    plan = Plan.layered(layers, width, words, say)
    before = plan.keys[-width:]
    for n in range(WALKED):
        plan.node(f"walk-{n}", *before, kind="noop")
        before = [f"walk-{n}"]
    return plan


async def begun(stage: Stage, run: str) -> None:
    """Until an executor works on it; a run that waits for ever is found by the rules."""
    deadline = asyncio.get_running_loop().time() + stage.ending
    while (await stage.got(f"/runs/{run}"))["status"] == "queued":
        if asyncio.get_running_loop().time() > deadline:
            return
        await asyncio.sleep(0.05)


async def ended(stage: Stage, run: str) -> None:
    """Until the run is over and told; the rules find it when it never is."""
    deadline = asyncio.get_running_loop().time() + stage.ending
    while asyncio.get_running_loop().time() < deadline:
        if await stage.is_told(run):
            return
        await asyncio.sleep(0.1)


def drawn(possible: Sequence[Fault], amount: int, rng: Random) -> list[Fault]:
    """None comes for the second time before all the others have been."""
    cycles = amount // len(possible) + 1
    return [fault for _ in range(cycles) for fault in rng.sample(possible, len(possible))][:amount]


def share(possible: Sequence[Scenario], commit: int, of: int = 2) -> list[Scenario]:
    """Every so many-th one; commits whose numbers follow each other play them all."""
    return list(possible[commit % of :: of])


def stormy(*kinds: str, pause: tuple[float, float], runs: float = 1) -> Play:
    """That many faults of these kinds, at any moment of the clients' work; at least `runs` runs for each."""

    async def play(stage: Stage, amount: int) -> None:
        order = drawn([fault for kind in kinds for fault in faults.ALL[kind]], amount, stage.rng)
        async with Load(stage, least=int(amount * runs)):
            for fault in order:
                await asyncio.sleep(stage.rng.uniform(*pause))
                await fault(stage)

    return play


async def long_outage(stage: Stage, seconds: int) -> None:
    """The broker stays away for longer than a client's default patience of sixty attempts, at four a second."""
    async with Load(stage, least=3):
        async with stage.fault("no broker"):
            stage.world.kill("nats")
            await asyncio.sleep(seconds)
            await stage.world.revive("nats")
        began = asyncio.get_running_loop().time()
        stage.drafts.append(await stage.client.draft())
        stage.figure("seconds until the flow resumes", asyncio.get_running_loop().time() - began, limit=5)


COMPLETED = {"expect": "completed"}
STORMS = (
    Scenario(
        "F1", "kill -9 of any service", stormy("services", pause=(0.1, 0.8), runs=2), (5, 30, 200), COMPLETED, seeds=5
    ),
    Scenario("F2", "kill -9 of the broker", stormy("nats", pause=(0.3, 1.5)), (1, 5, 50), COMPLETED),
    Scenario("F3", "kill -9 of Postgres", stormy("postgres", "woken", pause=(0.5, 2)), (2, 4, 20), COMPLETED),
    Scenario("F4", "the broker's disk rolled back or wiped", stormy("broker", pause=(0.5, 2)), (2, 2, 30), COMPLETED),
    Scenario("F5", "executors frozen twice their lease", stormy("frozen", pause=(0.3, 1)), (1, 5, 100), COMPLETED),
    Scenario("F7", "a broker outage beyond default reconnects", long_outage, (16, 20, 180), COMPLETED, seeds=5),
    Scenario(
        "storm", "every fault there is, mixed", stormy(*faults.ALL, pause=(0.2, 1.5), runs=2), (4, 13, 130), COMPLETED
    ),
)
