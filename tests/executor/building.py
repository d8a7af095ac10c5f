"""Builds runs for the tests of the executor's domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from contracts.executor import RunStatus
from contracts.plan import Gate
from services.executor.domain.advance import advance
from services.executor.domain.facts import Claimed, Fact, Started
from services.executor.domain.graph import Graph, Plan
from services.executor.domain.run import Node, ReviewRules, Run, standing, startable

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
NO_RULES = ReviewRules()
DIAMOND = {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")}


def a_run(
    deps: Mapping[str, Sequence[str]] = DIAMOND,
    *,
    attempts: int = 4,
    timeout: float | None = None,
    gate: Gate = Gate.OFF,
    review: ReviewRules = NO_RULES,
) -> Run:
    """A queued run, as nobody has claimed it yet."""
    plans = [Plan(uuid4(), key, f"Title of {key}", None, tuple(d), attempts, gate=gate) for key, d in deps.items()]
    graph = Graph.of(plans)
    nodes, ready, running = standing(graph, [Node(plan) for plan in graph.plans.values()])
    time = timedelta(seconds=timeout) if timeout is not None else None
    status = RunStatus.QUEUED
    run = Run(uuid4(), "default", None, "A run", graph, time, status, nodes, ready, running, time_left=time)
    return run._replace(review=review)


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
