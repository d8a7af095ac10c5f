"""Interleaved rounds: everybody is measured in the same minute, again and again, so that the neighbours meet all alike."""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from bench.contestant import Contestant, Full
from bench.peers.process import DriverFailed

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is done. A round takes seconds, not minutes; peers that are slower get fewer runs when nodes wait."""

    rounds: int = 5
    runs: int = 100
    idle: int = 20
    steps: int = 50
    waiting_rounds: int = 3
    waiting_runs: int = 50
    waiting_idle: int = 5
    waiting_steps: int = 20
    many_runs: int = 1000
    finished_runs: int = 100_000


QUICK = Effort(
    rounds=2, idle=10, waiting_rounds=1, waiting_runs=20, waiting_idle=3, waiting_steps=10, finished_runs=20_000
)


@dataclass(slots=True)
class Samples:
    """What was measured of one contestant, in seconds."""

    idle: list[float] = field(default_factory=list)
    full: list[Full] = field(default_factory=list)
    chain: list[float] = field(default_factory=list)
    failure: str = ""  # it takes no further part

    @property
    def rate(self) -> float:
        """Nodes a second, the median of the rounds."""
        return statistics.median(f.rate for f in self.full)

    @property
    def cpu(self) -> float:
        """Microseconds a node, over all rounds: one alone has few ticks of the kernel's clock."""
        return sum(f.cpu for f in self.full) * 1e6 / sum(f.nodes for f in self.full)

    @property
    def idle_p50(self) -> float:
        return statistics.median(self.idle)

    @property
    def step(self) -> float:
        """Seconds a step of the chain, where `chain` holds seconds a step."""
        return statistics.median(self.chain)


def ratio(ours: Samples, theirs: Samples) -> float:
    """The median of the rounds' ratios: within a round both met the same neighbours."""
    return statistics.median(a.rate / b.rate for a, b in zip(ours.full, theirs.full, strict=False))


async def rounds(contestants: Sequence[Contestant], effort: Effort, wait: float = 0.0) -> dict[str, Samples]:
    found = {contestant.name: Samples() for contestant in contestants}
    for number in range(effort.waiting_rounds if wait else effort.rounds):
        for contestant in contestants:
            samples = found[contestant.name]
            if not samples.failure:
                await _turn(contestant, samples, effort, wait)
                print(f"  round {number + 1}: {_said(contestant.name, samples)}", flush=True)
    return found


async def _turn(contestant: Contestant, samples: Samples, effort: Effort, wait: float) -> None:
    runs, idle, steps = effort.runs, effort.idle, effort.steps
    if wait:
        runs, idle, steps = effort.waiting_runs, effort.waiting_idle, effort.waiting_steps
    try:
        samples.idle += await contestant.idle(idle, wait)
        samples.chain.append(await contestant.chain(steps, wait) / steps)
        samples.full.append(await contestant.full(runs, wait))
    except DriverFailed as error:
        samples.failure = str(error)


async def several(measure: Callable[[], Awaitable[T]], times: int) -> list[T]:
    return [await measure() for _ in range(times)]


def _said(name: str, samples: Samples) -> str:
    if samples.failure:
        return f"{name} failed: {samples.failure}"
    last = samples.full[-1]
    return (
        f"{name:<28} {last.rate:>8,.0f} nodes/s {last.cpu_per_node:>7,.0f} µs/node  "
        f"fan {samples.idle_p50 * 1000:.1f} ms  step {samples.chain[-1] * 1000:.2f} ms"
    )
