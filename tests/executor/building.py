"""Builds runs for the tests of the executor's domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from contracts.executor import RunStatus
from services.executor.domain.advance import advance
from services.executor.domain.facts import Claimed, Fact, Started
from services.executor.domain.graph import Graph, Plan
from services.executor.domain.run import Node, Run, standing, startable

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
DIAMOND = {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")}


def a_run(deps: Mapping[str, Sequence[str]] = DIAMOND, *, attempts: int = 4, timeout: float | None = None) -> Run:
    """A queued run, as nobody has claimed it yet."""
    graph = Graph.of([Plan(uuid4(), key, f"Title of {key}", None, tuple(d), attempts) for key, d in deps.items()])
    nodes, ready, running = standing(graph, [Node(plan) for plan in graph.plans.values()])
    time = timedelta(seconds=timeout) if timeout is not None else None
    return Run(uuid4(), "default", None, "A run", graph, time, RunStatus.QUEUED, nodes, ready, running, time_left=time)


def after(run: Run, *facts: Fact, now: datetime = NOW) -> Run:
    for fact in facts:
        run = advance(run, fact, now).run
    return run


def started(run: Run, now: datetime = NOW) -> Run:
    """The run, claimed if need be, with everything running that may."""
    if run.status is RunStatus.QUEUED:
        run = after(run, Claimed(), now=now)
    while (key := startable(run, now)) is not None:
        run = after(run, Started(key), now=now)
    return run
