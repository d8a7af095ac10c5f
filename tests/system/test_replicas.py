"""More than one of a service: the work is shared, and nothing is done twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from uuid import UUID

from chassis.testing.eventually import eventually
from tests.system.api import Api
from tests.system.checks import each_node_completed_once, nothing_finished_was_repeated, the_feed_is_whole
from tests.system.ledger import Ledger, Plan, marks_of
from tests.system.world import World

WORKERS = "select worker_id, count(*) from executor.attempts where run_id = any($1) group by worker_id"
ALIVE = "select count(*) from executor.workers where not dead and lease_until > clock_timestamp()"


async def two_executors(world: World) -> None:
    world.launch("executor.2")

    async def both() -> bool:
        return bool((await world.rows(ALIVE))[0]["count"] == 2)

    await eventually(both, what="two executors with a lease")


def marked(plans: list[Plan]) -> list[tuple[str, str]]:
    return [(plan.name, key) for plan in plans for key in plan.keys]


async def test_two_executors_share_fifty_runs_and_execute_every_node_once(
    world: World, api: Api, ledger: Ledger
) -> None:
    await two_executors(world)
    plans = [Plan.chain(2, words="slow:0.05").node("side", words="slow:0.05") for _ in range(50)]
    runs = await asyncio.gather(*(api.launch(f"One of fifty {p.name}", p.nodes) for p in plans))
    for run_id in runs:
        await api.ended(run_id)
    marks = Counter(mark for call in await ledger.calls() for mark in marks_of(call).items())
    assert {mark: marks[mark] for mark in marked(plans)} == dict.fromkeys(marked(plans), 1)
    attempts = {r["worker_id"]: r["count"] for r in await world.rows(WORKERS, [UUID(r) for r in runs])}
    assert len(attempts) == 2, "both worked"
    assert sum(attempts.values()) == 150
    await the_feed_is_whole(world, api)


async def test_one_of_two_executors_dies_and_the_other_takes_over(world: World, api: Api, ledger: Ledger) -> None:
    await two_executors(world)
    plans = [Plan.chain(4, words="slow:0.2") for _ in range(10)]
    runs = await asyncio.gather(*(api.launch(f"Taken over {p.name}", p.nodes) for p in plans))
    await asyncio.gather(*(ledger.until_done(p, 1) for p in plans[:5]))
    world.kill("executor")
    for run_id in runs:
        await api.ended(run_id)
    for plan in plans:
        counts = await ledger.counts(plan)
        assert set(counts) == set(plan.keys)
        assert max(counts.values()) <= 2
        assert sum(counts.values()) <= len(plan.keys) + 1, "at most the one call that was in flight"
    await the_feed_is_whole(world, api)


async def test_an_executor_that_was_frozen_for_longer_than_its_lease_breaks_nothing(
    world: World, api: Api, ledger: Ledger
) -> None:
    """It wakes up with results of calls that another has taken over: the fence lets none of them in."""
    plans = [Plan.chain(4, words="slow:0.4") for _ in range(6)]
    runs = [await api.launch(f"Frozen {p.name}", p.nodes) for p in plans]
    await asyncio.gather(*(ledger.until(p, bool) for p in plans))
    world.freeze("executor")
    world.launch("executor.2")
    for plan in plans[:3]:
        await ledger.until(plan, lambda calls: len(calls) >= 3)
    world.thaw("executor")
    for run_id, plan in zip(runs, plans, strict=True):
        await api.ended(run_id)
        told = await api.told_all(run_id)
        each_node_completed_once(plan, told)
        await nothing_finished_was_repeated(ledger, plan, told, kills=1)
    await the_feed_is_whole(world, api)
