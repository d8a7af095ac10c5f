"""Scenarios with the gate on: who judges is killed, and verdicts are about attempts and runs that are history."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from chassis.testing.eventually import eventually
from chassis.testing.fake_answers import Call
from tests.chaos.faults import killed
from tests.chaos.gated import CLIENTS, Reviewed, gated
from tests.chaos.history import ENDS
from tests.chaos.model_server import JUDGE
from tests.chaos.orders import Aim
from tests.chaos.people import FINE, Opinion, attended, judge, rerun
from tests.chaos.review_rules import GATE
from tests.chaos.scenarios import COMPLETED, Scenario, drawn
from tests.chaos.stage import Stage
from tests.chaos.world import EXECUTORS
from tests.system.ledger import Plan, open_calls

PONDERS = 0.8  # seconds of the judge, in which people do something else
PLAN, LAYER = 100, 25  # nodes
SPARE = 4  # kills


@gated
async def killed_in_reviews(stage: Stage, kills: int) -> None:
    """A kill may come too late for the review it was meant for: there are some more, until one was cut off."""
    async with Reviewed(stage, least=kills) as load:
        for n in range(kills + SPARE):
            if n >= kills and await _was_cut_off(stage):
                break
            await eventually(lambda: _is_judged_now(stage, load), timeout=60, interval=0.05, what="a review under way")
            await killed("feedback", reviewers=1)(stage)


async def _is_judged_now(stage: Stage, load: Reviewed) -> bool:
    found = await asyncio.gather(*(stage.ledger.calls(plan) for plan in load.under_way.values()))
    return any(map(open_reviews, found))


async def _was_cut_off(stage: Stage) -> bool:
    calls = (await stage.ledger.calls())[stage.calls_before :]
    return any(call.model == JUDGE and call.outcome == "disconnected" for call in calls)


def open_reviews(calls: Sequence[Call]) -> list[Call]:
    return [call for call in open_calls(calls) if call.model == JUDGE]


@gated
async def overtaken(stage: Stage, rounds: int) -> None:
    """While the judge ponders a result, a person has it done again: poorly. Then the first one is found good."""

    async def quarrel(n: int) -> None:
        dice = stage.dice(f"quarrel {n}")
        to = await _pondered(stage, "first")
        await asyncio.sleep(dice.uniform(0, PONDERS))
        grade = dice.choice((35, 35, 90))
        if await rerun(stage, to, grade, f"slow:0.02 ponders:{PONDERS}"):
            await asyncio.sleep(dice.uniform(0, PONDERS))
            await judge(stage, to, Opinion(1, FINE))
        await attended(stage, to.plan, to.run)

    async with stage.fault(f"{rounds} results overtaken while they are judged"):
        await _all_at_once(rounds, quarrel)


async def _pondered(stage: Stage, key: str) -> Aim:
    """A run whose first result the judge has just been given."""
    plan = Plan().node(key, words=f"slow:0.02 ponders:{PONDERS}", say=f"grade:90 the work of {key}")
    plan.node("after", key, words="slow:0.02 ponders:0.02", say="grade:90 the work of after")
    run = await stage.client.launch(plan, gate=GATE)
    stage.runs.append(run)
    await stage.ledger.until(plan, lambda calls: any(call.model == JUDGE for call in calls))
    return Aim(plan, run, key)


async def _all_at_once(amount: int, one: Callable[[int], Awaitable[None]]) -> None:
    at_once = asyncio.Semaphore(CLIENTS * 2)

    async def turn(n: int) -> None:
        async with at_once:
            await one(n)

    await asyncio.gather(*(turn(n) for n in range(amount)))


@gated
async def too_late(stage: Stage, rounds: int) -> None:
    """Every second run is canceled while the judge ponders; in the others a result that counts is done once more."""

    async def one(n: int) -> None:
        await (_canceled(stage, n) if n % 2 else _done_once_more(stage))

    async with stage.fault(f"{rounds} cancels and reruns"):
        await _all_at_once(rounds, one)


async def _canceled(stage: Stage, n: int) -> None:
    to = await _pondered(stage, "first")
    await asyncio.sleep(stage.dice(f"cancel {n}").uniform(0, PONDERS))
    await stage.client.order(to.run, "cancel")
    await eventually(lambda: stage.is_told(to.run), timeout=stage.ending, interval=0.1, what=f"the end of run {to.run}")
    await judge(stage, to, Opinion(1, FINE))
    await rerun(stage, to)


async def _done_once_more(stage: Stage) -> None:
    to = await _pondered(stage, "first")
    await attended(stage, to.plan, to.run)
    attempt = await rerun(stage, to, FINE, "slow:0.02")

    async def it_is() -> bool:
        found = await stage.got(f"/runs/{to.run}")
        attempts = {node["key"]: node["attempt"] for node in found["dag"]["nodes"]}
        return attempts[to.key] >= attempt and found["status"] in ENDS.values()

    await eventually(it_is, timeout=stage.ending, interval=0.1, what=f"attempt {attempt} of {to.run}")


@gated
async def many(stage: Stage, nodes: int) -> None:
    """At once; feedback and executors die on their way, each at some progress."""
    plans = [_wide(min(PLAN, nodes - first)) for first in range(0, nodes, PLAN)]
    runs = await asyncio.gather(*(stage.client.launch(plan, gate=GATE) for plan in plans))
    stage.runs += runs
    both = (killed("feedback", reviewers=1), *(killed(name, executors=1) for name in EXECUTORS))
    order = drawn(both, max(2, min(nodes // 80, 12)), stage.rng)
    for n, fault in enumerate(order, start=1):
        wanted = nodes * n // (len(order) + 1)
        await eventually(lambda w=wanted: _completed(stage, w), timeout=120, interval=0.2, what=f"{wanted} nodes")
        await fault(stage)
    await asyncio.gather(*(attended(stage, plan, run) for plan, run in zip(plans, runs, strict=True)))


def _wide(nodes: int) -> Plan:
    plan = Plan()
    for n in range(nodes):
        before = [f"n{n - LAYER}"] if n >= LAYER else []
        plan.node(f"n{n}", *before, words="slow:0.02 ponders:0.02", say=f"grade:90 the work of n{n}")
    return plan


async def _completed(stage: Stage, wanted: int) -> bool:
    found = await asyncio.gather(*(stage.got(f"/runs/{run}") for run in stage.runs))
    return sum(node["status"] == "completed" for run in found for node in run["dag"]["nodes"]) >= wanted


CUT = COMPLETED | {"cuts_reviews": True}
LATE = {"tells": ["NODE_VERDICT_LAPSED", "NODE_RERUN_ASKED"]}
SCENARIOS = (
    Scenario("G1", "feedback killed in the middle of reviews", killed_in_reviews, (1, 5, 150), CUT),
    Scenario("G3", "verdicts on attempts that are history", overtaken, (0, 12, 400), LATE | COMPLETED),
    Scenario("G4", "verdicts after a cancel, and reruns of what counts", too_late, (0, 12, 400), LATE),
    Scenario("G5", "five hundred nodes reviewed through restarts", many, (0, 500, 3000), COMPLETED),
)
