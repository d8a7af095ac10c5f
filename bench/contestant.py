"""What is measured in the same rounds: ourselves and the peers, asked the same three things."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from bench.peers.protocol import WIDTH

FAN_NODES = WIDTH + 2
SETTLE_SECONDS = 0.5  # after the last result: what is still to be acknowledged, marked and written counts as well


class LeftOut(Exception):
    """A peer that cannot take part on this machine; the message says why, and what would help."""


@dataclass(frozen=True, slots=True)
class Full:
    """Fans at saturation: the seconds on the clock, and the CPU seconds of everything that worked for them."""

    runs: int
    seconds: float
    cpu: float

    @property
    def nodes(self) -> int:
        return self.runs * FAN_NODES

    @property
    def rate(self) -> float:
        return self.nodes / self.seconds

    @property
    def cpu_per_node(self) -> float:
        """In microseconds."""
        return self.cpu * 1e6 / self.nodes


class Contestant(Protocol):
    """`wait` is how long each node sleeps."""

    name: str
    clock: str  # what the clock of `full` covers

    async def idle(self, runs: int, wait: float) -> list[float]:
        """Seconds of fans that run one after the other."""

    async def full(self, runs: int, wait: float) -> Full: ...

    async def chain(self, steps: int, wait: float) -> float:
        """Seconds of one chain."""
