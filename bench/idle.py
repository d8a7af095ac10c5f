"""What a stack that nobody uses costs: memory and CPU of every process, supervisor included."""

from __future__ import annotations

import asyncio
import time

import psutil

from bench.figures import Report
from bench.stack import World


def _processes() -> list[psutil.Process]:
    me = psutil.Process()
    return [me, *me.children(recursive=True)]


def _cpu() -> float:
    total = 0.0
    for process in _processes():
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


async def measure(report: Report, world: World, seconds: float) -> None:
    await asyncio.sleep(5)
    before, began = _cpu(), time.perf_counter()
    await asyncio.sleep(seconds)
    share = (_cpu() - before) / (time.perf_counter() - began)
    pss = {p.pid: p.memory_full_info().pss for p in _processes()}
    names = {process.name: process.child.pid for process in world.running.processes if process.child}
    parts = ", ".join(f"{name} {pss.get(pid, 0) / 2**20:.0f}" for name, pid in names.items())
    report.add(
        "idle stack, memory",
        f"{sum(pss.values()) / 2**20:.0f} MiB",
        f"sum of PSS of {len(pss)} processes ({parts} MiB)",
    )
    report.add("idle stack, CPU", f"{share * 100:.1f} % of one core", f"over {seconds:.0f} s, all processes")
