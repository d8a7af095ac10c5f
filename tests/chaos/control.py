"""Scenarios of people who steer: eight at once who want different things of the same tasks, and cancels under way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from chassis.testing.eventually import eventually
from chassis.testing.fake_answers import Call
from tests.chaos.history import ENDS
from tests.chaos.scenarios import Scenario
from tests.chaos.stage import Stage
from tests.system.ledger import Plan, open_calls

CLIENTS, TASKS = 8, 4
AT_ONCE = 3
LAST_ORDERS = 60.0  # seconds


@dataclass(frozen=True, slots=True)
class Wish:
    """One thing a person may ask for. `path` speaks of {task} or {run}; what the API does not have is not wished for."""

    weight: int
    method: str
    path: str
    route: str
    action: str = ""

    def body(self) -> Any:
        return {"action": self.action} if self.action else None


RUN, TASK = "/runs/{run_id}", "/tasks/{task_id}"
WISHES = (
    Wish(30, "POST", "/tasks/{task}/start", f"{TASK}/start"),
    Wish(10, "POST", "/tasks/{task}/run", f"{TASK}/run"),
    Wish(15, "PATCH", "/runs/{run}", RUN, "pause"),
    Wish(20, "PATCH", "/runs/{run}", RUN, "resume"),
    Wish(10, "PATCH", "/runs/{run}", RUN, "cancel"),
    Wish(5, "PATCH", "/runs/{run}", RUN, "skip_failed_and_resume"),
    Wish(10, "POST", "/tasks/{task}/retry", f"{TASK}/retry"),
    Wish(5, "POST", "/tasks/{task}/pause", f"{TASK}/pause"),
    Wish(5, "POST", "/tasks/{task}/resume", f"{TASK}/resume"),
    Wish(5, "POST", "/tasks/{task}/cancel", f"{TASK}/cancel"),
    Wish(5, "POST", "/tasks/{task}/reset", f"{TASK}/reset"),
)


class Storm:
    """Several people at the same tasks."""

    def __init__(self, stage: Stage, wishes: Sequence[Wish]) -> None:
        self._stage, self._wishes = stage, wishes
        self._plans: dict[str, Plan] = {}
        self._latest: dict[str, str] = {}  # task to the run that was accepted last

    async def prepare(self) -> None:
        for _ in range(TASKS):
            plan = Plan.layered(layers=2, width=2, words=f"slow:{self._stage.rng.uniform(0.02, 0.2):.2f}")
            self._plans[await self._stage.client.task_with(plan)] = plan

    async def rage(self, operations: int) -> None:
        for _ in range(operations):
            task = self._stage.rng.choice(list(self._plans))
            [wish] = self._stage.rng.choices(self._wishes, [w.weight for w in self._wishes])
            if "{run}" in wish.path and task not in self._latest:
                continue
            await self._ask(wish, task)

    async def _ask(self, wish: Wish, task: str) -> None:
        run = self._latest.get(task, "")
        about = {"run": run, "action": wish.action} if "{run}" in wish.path else {"plan": self._plans[task].name}
        path = wish.path.format(task=task, run=run)
        key = f"storm {uuid4()}"
        status, answer = await self._stage.client.until_answered(wish.method, path, wish.body(), key=key, **about)
        if status == 202 and (accepted := answer.get("run_id")):
            self._latest[task] = accepted
            self._stage.runs.append(accepted)

    async def end(self) -> None:
        """Whatever is still going is canceled, until nothing is: a cancel may cross a start."""
        deadline = time.monotonic() + LAST_ORDERS
        for run in dict.fromkeys(self._stage.runs):
            while time.monotonic() < deadline:
                found = await self._stage.got(f"/runs/{run}")
                if found["status"] in ENDS.values():
                    break
                await self._stage.client.order(run, "cancel")
                await asyncio.sleep(0.2)


async def storm(stage: Stage, operations: int) -> None:
    """Each of them asks that often. Whatever they ask for, each task has one active run at most, and every move is legal."""
    routes = (await stage.got("/openapi.json"))["paths"]
    steering = Storm(stage, [w for w in WISHES if w.method.lower() in routes.get(w.route, {})])
    stage.tasks_follow = False
    await steering.prepare()
    async with stage.fault(f"{CLIENTS} people, {operations} wishes each"):
        await asyncio.gather(*(steering.rage(operations) for _ in range(CLIENTS)))
    await steering.end()


async def cancels(stage: Stage, amount: int) -> None:
    """Each with its model calls under way: how long until the model server sees them hang up?"""
    gate, seconds = asyncio.Semaphore(AT_ONCE), list[float]()
    stage.tasks_follow = False

    async def one() -> None:
        async with gate:
            seconds.append(await cancel(stage))

    async with stage.fault(f"{amount} cancels"):
        await asyncio.gather(*(one() for _ in range(amount)))
    seconds.sort()
    stage.figure("seconds until a canceled call is closed, p95", seconds[int(len(seconds) * 0.95)], limit=1)
    stage.figure("seconds until a canceled call is closed, longest", seconds[-1], limit=6)


async def cancel(stage: Stage) -> float:
    plan = Plan().node("a", words="slow:60").node("b", words="pace:0.2", say="word " * 500).node("c", "a", "b")
    run = await stage.client.launch(plan)
    stage.runs.append(run)
    await stage.ledger.until(plan, lambda calls: len(open_calls(calls)) == 2)
    asked = time.time()
    await stage.client.order(run, "cancel")
    calls: list[Call] = await stage.ledger.until(plan, lambda calls: not open_calls(calls), timeout=30)
    await eventually(lambda: stage.is_told(run), timeout=30, what=f"the end of run {run}")
    return max((call.ended_at or 0) for call in calls) - asked


TIMED = {"judge_times": True}
SCENARIOS = (
    Scenario("F10", "people who want different things at once", storm, (15, 200, 2500)),
    Scenario("F11", "cancels while models are at work", cancels, (4, 30, 500), TIMED),
)
