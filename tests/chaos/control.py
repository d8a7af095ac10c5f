"""Scenario of people who steer: eight at once who want different things of the same tasks, their runs and nodes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any
from uuid import uuid4

from tests.chaos.history import ENDS
from tests.chaos.orders import Aim, NodeOrder, give
from tests.chaos.scenarios import Scenario
from tests.chaos.stage import Stage
from tests.system.ledger import Plan

CLIENTS, TASKS = 8, 4
EARLIER = 0.2  # of the orders go to a run of before


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


RUN, TASK, NODE = "/runs/{run_id}", "/tasks/{task_id}", "/nodes/{node_id}"
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
    Wish(3, "POST", "/tasks/{task}/cancel", f"{TASK}/cancel"),
    Wish(12, "POST", "/tasks/{task}/reset", f"{TASK}/reset"),
    Wish(15, "PATCH", "/nodes/{node}", NODE, "pause"),
    Wish(20, "PATCH", "/nodes/{node}", NODE, "resume"),
    Wish(8, "PATCH", "/nodes/{node}", NODE, "skip"),
    Wish(15, "PATCH", "/nodes/{node}", NODE, "override"),
)


class Storm:
    """Several people at the same tasks."""

    def __init__(self, stage: Stage, wishes: Sequence[Wish]) -> None:
        self._stage, self._wishes = stage, wishes
        self._plans: dict[str, Plan] = {}
        self._runs: dict[str, list[str]] = {}  # of each task, as they were accepted

    async def prepare(self) -> None:
        """In every second task a node fails so often that somebody has to do something about it."""
        for n in range(TASKS):
            words = f"slow:{self._stage.rng.uniform(0.02, 0.2):.2f}"
            plan = Plan.layered(layers=2, width=2, words=words)
            plan.node("frail", "n0-0", words=f"{words} fail:400:6" if n % 2 else words)
            plan.node("walk", "n1-0", kind="noop").node("end", "walk", "n1-1", "frail", words=words)
            self._plans[await self._stage.client.task_with(plan)] = plan

    async def rage(self, who: str, operations: int) -> None:
        dice = self._stage.dice(who)
        for _ in range(operations):
            task = dice.choice(list(self._plans))
            [wish] = dice.choices(self._wishes, [w.weight for w in self._wishes])
            runs = self._runs.get(task, [])
            run = (dice.choice(runs) if dice.random() < EARLIER else runs[-1]) if runs else ""
            if "{task}" in wish.path:
                await self._ask_of_task(wish, task)
            elif run and "{run}" in wish.path:
                await self._ask_of_run(wish, run)
            elif run:
                await self._ask_of_node(wish, task, run, dice)

    async def _ask_of_task(self, wish: Wish, task: str) -> None:
        path, about = wish.path.format(task=task), {"key": f"storm {uuid4()}", "plan": self._plans[task].name}
        status, answer = await self._stage.client.until_answered(wish.method, path, **about)
        if status == 202 and (accepted := answer.get("run_id")):
            self._runs.setdefault(task, []).append(accepted)
            self._stage.runs.append(accepted)

    async def _ask_of_run(self, wish: Wish, run: str) -> None:
        about = {"key": f"storm {uuid4()}", "run": run, "action": wish.action}
        await self._stage.client.until_answered(wish.method, wish.path.format(run=run), wish.body(), **about)

    async def _ask_of_node(self, wish: Wish, task: str, run: str, dice: Random) -> None:
        plan = self._plans[task]
        mode = "interrupt" if wish.action == "pause" and dice.random() < 0.3 else "finish"
        await give(self._stage, NodeOrder(wish.action, mode), Aim(plan, run, dice.choice(plan.keys)))


async def until_over(stage: Stage, runs: Iterable[str], action: str = "") -> None:
    """`action` is ordered of what is still going, again and again: it may cross a start, and an order may reopen a run."""
    deadline = time.monotonic() + stage.ending
    for run in dict.fromkeys(runs):
        while time.monotonic() < deadline and not is_over(found := await stage.got(f"/runs/{run}")):
            if action and found["status"] not in ENDS.values():
                await stage.client.order(run, action)
            await asyncio.sleep(0.1)


def is_over(run: dict[str, Any]) -> bool:
    """It has ended, and no order waits that would reopen it."""
    control = run["control"]
    return run["status"] in ENDS.values() and (control is None or control["effective_at"] is not None)


async def storm(stage: Stage, operations: int) -> None:
    """Each of them asks that often. Whatever they ask for, each task has one active run at most, and every move is legal."""
    routes = (await stage.got("/openapi.json"))["paths"]
    steering = Storm(stage, [w for w in WISHES if w.method.lower() in routes.get(w.route, {})])
    stage.tasks_follow = False
    await steering.prepare()
    async with stage.fault(f"{CLIENTS} people, {operations} wishes each"):
        await asyncio.gather(*(steering.rage(f"person {n}", operations) for n in range(CLIENTS)))
    await until_over(stage, stage.runs, "cancel")


SCENARIOS = (Scenario("F10", "people who want different things at once", storm, (25, 200, 2500)),)
