"""CPU time of process trees: the figure that survives a noisy machine."""

from __future__ import annotations

from collections.abc import Iterable

import psutil


def seconds(roots: Iterable[int], *, alone: bool = False) -> float:
    """User and system time of these processes and the children they have buried, and of their living descendants unless
    they are counted `alone`."""
    return sum(_own(process) for process in _trees(roots, alone).values())


def _trees(roots: Iterable[int], alone: bool) -> dict[int, psutil.Process]:
    found: dict[int, psutil.Process] = {}
    for pid in roots:
        try:
            root = psutil.Process(pid)
            found |= {process.pid: process for process in (root, *(() if alone else root.children(recursive=True)))}
        except psutil.NoSuchProcess:
            continue
    return found


def _own(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)
