"""Scenario of deaths between any two steps: a service that kills itself there, and comes back as itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from uuid import UUID

from tests.chaos.points import POINTS, Point
from tests.chaos.review_rules import GATE
from tests.chaos.scenarios import COMPLETED, Scenario, begun, ended, errand
from tests.chaos.stage import Stage
from tests.chaos.world import EXECUTORS, SERVICES

RUNS = 2
GOOD = "grade:90 a good result"
MOST_WORK = 4  # times; the third passing of a point may take that much
#: passings: a service that starts compares its streams once in any case, and finds what its predecessor left but once
FIXED = {"order": 1, "wipe": 2, "orphans": 1}
DYING = ("executor", "planner", "gateway", "feedback")
UNDER_WAY = "select from executor.runs where id = any($1) and status = 'running'"
IMPATIENT = 3.0  # seconds; an answer that died with its owner is asked for again, under the same key


def rounds(points: Sequence[Point]) -> list[list[Point]]:
    """One point of each service at a time, as long as there are."""
    columns = [[p for p in points if p.service == service] for service in DYING]
    return [[c[n] for c in columns if n < len(c)] for n in range(max(map(len, columns), default=0))]


def planned(rng: Random, amount: int) -> list[list[Point]]:
    """Rounds with so many points in all, each service's in an order that is drawn; none twice before all have been."""
    found: list[list[Point]] = []
    while amount > 0:
        for points in rounds(rng.sample(POINTS, len(POINTS))):
            found += [points[:amount]] if amount > 0 else []
            amount -= len(points)
    return found


async def between(stage: Stage, amount: int) -> None:
    """So many of the points, in an order and at a passing that the seed draws; in the long run all of them, often."""
    stage.client.patience = IMPATIENT
    for points in planned(stage.rng, amount):
        await die_between(stage, points)


async def die_between(stage: Stage, points: Sequence[Point]) -> None:
    world = stage.world
    replaced = [name for p in points for name in SERVICES if name.split(".")[0] == p.service]
    lost = {"executors": 2 * _has(points, "executor"), "reviewers": _has(points, "feedback")}
    async with stage.fault(f"die when {'; when '.join(p.name for p in points)}", **lost):
        if any(p.trigger == "orphans" for p in points):
            await leave_behind(stage)
        world.kill(*(name for name in replaced if world.is_running(name)))
        for p in points:
            nth = FIXED.get(p.trigger) or stage.rng.randint(1, 3)
            world.compose(p.service, "tests.chaos.points", p.service, p.name, str(nth), may_die=True)
        world.launch(*(p.service for p in points))
        for _ in range(MOST_WORK):
            await work(stage, points)
            if not waiting(stage, points):
                break
        for p in waiting(stage, points):
            give_up(stage, p)
        world.launch(*(name for name in replaced if not world.is_running(name)))
    await world.until_all_serve()


async def leave_behind(stage: Stage) -> None:
    """Runs that have begun, and lose their owner: only such are claimed, an executor takes at once what it started."""
    world = stage.world
    while True:
        runs = [await stage.client.launch(errand(layers=2, width=2, words="slow:0.6")) for _ in range(RUNS)]
        stage.runs += runs
        await asyncio.gather(*(begun(stage, run) for run in runs))
        world.kill(*(name for name in EXECUTORS if world.is_running(name)))
        if await world.rows(UNDER_WAY, [UUID(run) for run in runs]):
            return
        world.launch(*EXECUTORS)  # they were over before we looked
        await world.until_all_serve()


async def work(stage: Stage, points: Sequence[Point]) -> None:
    triggers = {p.trigger for p in points}
    words = "slow:0.6" if "order" in triggers else "slow:0.1"  # an order to a run that is over is refused
    gate, say = (GATE, GOOD) if "review" in triggers else ("off", "")
    plans = [errand(layers=2, width=2, words=words, say=say) for _ in range(RUNS)]
    runs = await asyncio.gather(*(stage.client.launch(plan, gate=gate) for plan in plans))
    stage.runs += runs
    if "order" in triggers:
        for action in ("pause", "resume"):
            await asyncio.gather(*(stage.client.order(run, action) for run in runs))
    if "wipe" in triggers:
        await stage.world.wipe_the_broker()
    await asyncio.gather(*(ended(stage, run) for run in runs))


def waiting(stage: Stage, points: Sequence[Point]) -> list[Point]:
    return [p for p in points if stage.world.has_yet_to_die(p.service)]


def give_up(stage: Stage, p: Point) -> None:
    """A point that nobody came past has proved nothing."""
    stage.recorder.note("late", what=f"the death of the {p.service} when {p.name}")
    stage.world.kill(p.service)
    stage.world.decompose(p.service)
    stage.world.launch(p.service)


def _has(points: Sequence[Point], service: str) -> int:
    return int(any(p.service == service for p in points))


SCENARIOS = (Scenario("F9", "deaths between two steps", between, (3, 20, 20 * len(POINTS)), COMPLETED),)
