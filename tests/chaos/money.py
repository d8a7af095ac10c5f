"""Scenario of budgets: two hundred nodes with money for fifty, and executors killed; the model server knows what it cost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

from chassis.testing.eventually import eventually
from chassis.testing.fake_answers import Call
from tests.chaos.faults import killed
from tests.chaos.history import History
from tests.chaos.scenarios import COMPLETED, Scenario, ended
from tests.chaos.stage import Stage
from tests.chaos.world import EXECUTORS, MOST_TOKENS, PRICE_OF_A_TOKEN
from tests.system.ledger import Plan

NODES, AFFORDABLE = 200, 50
CALL = MOST_TOKENS * PRICE_OF_A_TOKEN  # no answer costs less, and none may cost more
LONG_ANSWER = "x" * (4 * (MOST_TOKENS - 1))
WORDS = "slow:0.02"  # so that calls are made at once with others
OVERDRAWN = """select scope, scope_id, limit_usd::text, (spent_usd + reserved_usd)::text as used from executor.budgets
    where spent_usd + reserved_usd > limit_usd"""


async def rounds(stage: Stage, amount: int) -> None:
    async with watched(stage):
        for number in range(amount):
            await one_round(stage, fault=number % 2 == 1)
    await stage.settled()


async def one_round(stage: Stage, *, fault: bool) -> None:
    """Until money has run out; then there is more, and all goes on."""
    plan = Plan()
    for n in range(NODES):
        plan.node(f"n{n}", words=WORDS, say=LONG_ANSWER)
    task = await stage.client.task_with(plan)
    await limited(stage, task, AFFORDABLE)
    run = await stage.client.start(task, plan)
    stage.runs.append(run)
    if fault:
        some = stage.rng.randrange(1, AFFORDABLE)
        await stage.ledger.until(plan, lambda calls: len(calls) >= some)
        await killed(*EXECUTORS, executors=len(EXECUTORS))(stage)  # one of them owns the run
    await eventually(lambda: _has_run_out(stage, task), timeout=60, what="the end of the money")
    noted(stage, plan, await stage.ledger.calls(plan), AFFORDABLE)
    await limited(stage, task, 2 * NODES)
    await ended(stage, run)
    noted(stage, plan, await stage.ledger.calls(plan), 2 * NODES)


async def limited(stage: Stage, task: str, calls: int) -> None:
    path, key = f"/budgets/task/{task}", f"budget {task} {calls}"
    await stage.client.until_answered("PUT", path, {"limit_usd": str(calls * CALL)}, key=key)


async def _has_run_out(stage: Stage, task: str) -> bool:
    """Somebody waits, and nobody can give anything back any more."""
    page = await stage.client.get("/budgets", scope="task", scope_id=task)
    if page is None or not page["items"]:
        return False
    budget = page["items"][0]
    left = Decimal(budget["limit_usd"]) - Decimal(budget["spent_usd"])
    return bool(budget["waiting_nodes"]) and Decimal(budget["reserved_usd"]) <= 0 and left < CALL


def noted(stage: Stage, plan: Plan, calls: Iterable[Call], affordable: int) -> None:
    """What the model server's answers came to: also one that was cut off was worked on."""
    cost = sum(CALL for call in calls if call.status in (None, 200))
    stage.recorder.note("budget", plan=plan.name, limit=float(affordable * CALL), cost=float(cost))


@asynccontextmanager
async def watched(stage: Stage) -> AsyncIterator[None]:
    """Looks at all budgets for as long as it lasts."""
    looking = asyncio.create_task(_look(stage))
    yield
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)


async def _look(stage: Stage) -> None:
    known = set[tuple[Any, ...]]()
    while True:
        for row in await stage.world.rows(OVERDRAWN):
            if (found := tuple(row)) not in known:
                known.add(found)
                stage.recorder.note("overdraft", budget=f"{row['scope']} {row['scope_id']}", **dict(row))
        await asyncio.sleep(0.05)


def no_budget_is_exceeded(history: History) -> Iterator[str]:
    """The model server is the witness; the product's own books are looked at all the time as well."""
    for budget in history.all("budget"):
        if budget["cost"] > budget["limit"] * (1 + 1e-9):
            yield f"the calls for plan {budget['plan']} cost ${budget['cost']:.2f}, its limit is ${budget['limit']:.2f}"
    for found in history.all("overdraft"):
        yield f"of the budget of {found['budget']} ${found['used']} were used, its limit is ${found['limit_usd']}"


SCENARIOS = (Scenario("F12", "two hundred nodes with money for fifty", rounds, (0, 5, 200), COMPLETED, "/budgets"),)
