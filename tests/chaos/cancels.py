"""Scenario of cancels while models are at work: how long until the model server sees them hang up?"""

from __future__ import annotations

import asyncio
import time

from chassis.testing.eventually import eventually
from chassis.testing.fake_answers import Call
from tests.chaos.scenarios import Scenario
from tests.chaos.stage import Stage
from tests.system.ledger import Plan, open_calls

AT_ONCE = 3
ENOUGH = 20  # cancels, for a percentile; of fewer, on whatever machine tests run, the slowest says nothing


async def cancels(stage: Stage, amount: int) -> None:
    """Each with its model calls under way."""
    gate, seconds = asyncio.Semaphore(AT_ONCE), list[float]()
    stage.tasks_follow = False

    async def one() -> None:
        async with gate:
            seconds.append(await cancel(stage))

    async with stage.fault(f"{amount} cancels"):
        await asyncio.gather(*(one() for _ in range(amount)))
    seconds.sort()
    p95, longest = (1, 6) if amount >= ENOUGH else (None, None)
    stage.figure("seconds until a canceled call is closed, p95", seconds[int(len(seconds) * 0.95)], limit=p95)
    stage.figure("seconds until a canceled call is closed, longest", seconds[-1], limit=longest)


async def cancel(stage: Stage) -> float:
    plan = Plan().node("a", words="slow:60").node("b", words="pace:0.2", say="word " * 500).node("c", "a", "b")
    run = await stage.client.launch(plan)
    stage.runs.append(run)
    await stage.ledger.until(plan, lambda calls: len(open_calls(calls)) == 2)
    asked = time.time()
    await stage.client.order(run, "cancel")
    calls: list[Call] = await stage.ledger.until(plan, lambda calls: not open_calls(calls), timeout=stage.ending)
    await eventually(lambda: stage.is_told(run), timeout=stage.ending, what=f"the end of run {run}")
    return max((call.ended_at or 0) for call in calls) - asked


SCENARIOS = (Scenario("F11", "cancels while models are at work", cancels, (4, 30, 500), {"judge_times": True}),)
