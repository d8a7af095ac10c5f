"""The comparison: ourselves and the peers in the same rounds, then what only we have targets for."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from statistics import median

from bench import commits, store
from bench.contestant import Contestant, Full, LeftOut
from bench.ground import Ground, ground
from bench.ours import ourselves
from bench.peers.peer import PEERS, Peer
from bench.peers.process import DriverFailed
from bench.rounds import Effort, Samples, ratio, rounds, several

WAIT = 0.05
REPEATS = 3


@dataclass(slots=True)
class Found:
    """All figures of a comparison."""

    effort: Effort
    at_once: dict[str, Samples] = field(default_factory=dict)
    waiting: dict[str, Samples] = field(default_factory=dict)
    clocks: dict[str, str] = field(default_factory=dict)
    versions: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    reached: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


async def compare(peers: Sequence[str], effort: Effort) -> Found:
    found = Found(effort)
    async with ground() as here:
        await _at_once(found, here, peers)
        await _waiting(found, here, peers)
        await _with_a_timeline(found, here)
        await _growing(found, here)
    return found


async def _at_once(found: Found, here: Ground, peers: Sequence[str]) -> None:
    print("no-op nodes, interleaved rounds", flush=True)
    async with AsyncExitStack() as stack:
        ours = await stack.enter_async_context(ourselves(here))
        others = await _entered(found, here, peers, stack, waiting=False)
        contestants: list[Contestant] = [ours, *others.values()]
        found.clocks = {c.name: c.clock for c in contestants}
        found.versions = [peer.versions for peer in others.values()]
        found.at_once = await rounds(contestants, found.effort)
    mine = found.at_once[ours.name]
    found.reached |= {"cpu": mine.cpu, "idle": mine.idle_p50 * 1000, "step": mine.step * 1000}
    for key, peer in others.items():
        if (theirs := found.at_once[peer.name]).full:
            found.reached[key] = ratio(mine, theirs)


async def _waiting(found: Found, here: Ground, peers: Sequence[str]) -> None:
    print("nodes that wait 50 ms", flush=True)
    async with AsyncExitStack() as stack:
        ours = await stack.enter_async_context(ourselves(here, wait=WAIT))
        others = await _entered(found, here, peers, stack, waiting=True)
        found.waiting = await rounds([ours, *others.values()], found.effort, WAIT)
    found.reached["waiting_step"] = (found.waiting[ours.name].step - WAIT) * 1000


async def _entered(
    found: Found, here: Ground, peers: Sequence[str], stack: AsyncExitStack, *, waiting: bool
) -> dict[str, Peer]:
    entered = {}
    for name in peers:
        try:
            entered[name] = await stack.enter_async_context(PEERS[name](here, waiting))
        except (LeftOut, DriverFailed) as reason:
            found.left_out.append(f"{name}, nodes that {'wait' if waiting else 'do nothing'}: {reason}")
            print(f"  left out: {found.left_out[-1]}", flush=True)
    return entered


async def _with_a_timeline(found: Found, here: Ground) -> None:
    print("with a gateway that projects the timeline", flush=True)
    async with ourselves(here, timeline=True) as ours:
        runs = await several(lambda: ours.full(found.effort.runs, 0.0), REPEATS)
    found.reached["cpu_timeline"] = _cpu(runs)
    found.notes.append(f"With a gateway projecting the timeline: {_said(runs)}.")


async def _growing(found: Found, here: Ground) -> None:
    print("growth", flush=True)
    effort = found.effort
    few, many, later, ceilings = [], [], [], []
    async with ourselves(here) as ours, ourselves(here, "history") as older:
        await store.fill(older.connection, await older.finished(), effort.finished_runs)
        for _ in range(REPEATS):
            few.append(await ours.full(effort.runs, 0.0))
            later.append(await older.full(effort.runs, 0.0))
            many.append(await ours.full(effort.many_runs, 0.0))
            ceilings.append(await commits.measured(await here.database("commits")))
    found.reached |= {
        "share": 100 * median(run.rate / ceiling for run, ceiling in zip(many, ceilings, strict=True)),
        "crowd": median(run.rate / small.rate for run, small in zip(many, few, strict=True)),
        "history": median(run.rate / young.rate for run, young in zip(later, few, strict=True)),
    }
    found.notes += [
        f"{effort.runs:,} runs at once: {_said(few)}; {effort.many_runs:,} runs: {_said(many)}.",
        f"16 connections commit {median(ceilings):,.0f} single-row transactions a second in the same minutes.",
        f"{effort.runs:,} runs at once beside {effort.finished_runs:,} finished ones: {_said(later)}.",
    ]


def _said(runs: Sequence[Full]) -> str:
    return f"{_rate(runs):,.0f} nodes/s, {_cpu(runs):.0f} µs of CPU a node"


def _rate(runs: Sequence[Full]) -> float:
    return median(run.rate for run in runs)


def _cpu(runs: Sequence[Full]) -> float:
    return sum(run.cpu for run in runs) * 1e6 / sum(run.nodes for run in runs)
