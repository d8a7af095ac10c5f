"""Scenario of runs that are just failing: orders that would let them go on, while another run of the task is asked for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from uuid import uuid4

from chassis.testing.eventually import eventually
from chassis.testing.fake_answers import Call
from tests.chaos.control import until_over
from tests.chaos.orders import Aim, NodeOrder, give
from tests.chaos.scenarios import Load, Scenario
from tests.chaos.stage import Stage
from tests.system.ledger import Plan, marks_of

TASKS, ORDERS = 4, 2
MOST_ROUNDS = 25  # about one task
BYSTANDERS = 2
LAST_CALL = 0.3  # seconds that the node takes whose failure ends the run
EARLIEST, LATEST = -0.06, 0.06  # seconds around that moment


class Quarrel:
    """One task. Its run has failed but for its last node; at the moment of its end everybody asks for something."""

    def __init__(self, stage: Stage, name: str) -> None:
        self._stage, self._rng = stage, stage.dice(name)
        self._plan = Plan().node("early", words="fail:400:999").node("after", "early")
        self._plan.node("last", words=f"slow:{LAST_CALL} fail:400:999")

    async def rounds(self, amount: int) -> None:
        task = await self._stage.client.task_with(self._plan)
        for _ in range(amount):
            await self._round(task)

    async def _round(self, task: str) -> None:
        before = self._at_last(await self._stage.ledger.calls(self._plan))
        run = await eventually(lambda: self._asked_for(task, "run"), what="a task that is free again")
        await self._stage.ledger.until(self._plan, lambda calls: self._at_last(calls) > before)
        end = time.monotonic() + LAST_CALL
        orders = [self._order(run, end) for _ in range(ORDERS)]
        started = await asyncio.gather(self._start(task, end, "retry"), self._start(task, end, "run"), *orders)
        await until_over(self._stage, [run, *(other for other in started if other)])

    def _at_last(self, calls: Sequence[Call]) -> int:
        return sum(marks_of(call).get(self._plan.name) == "last" for call in calls)

    async def _moment(self, end: float) -> None:
        """Any one around the end."""
        await asyncio.sleep(max(0.0, end + self._rng.uniform(EARLIEST, LATEST) - time.monotonic()))

    async def _order(self, run: str, end: float) -> None:
        action = self._rng.choice(("skip_failed_and_resume", "skip", "override"))
        early = Aim(self._plan, run, "early")
        await self._stage.node_of(run, early.key)  # asked for in time
        await self._moment(end)
        if action == "skip_failed_and_resume":
            await self._stage.client.order(run, action)
        else:
            await give(self._stage, NodeOrder(action), early)

    async def _start(self, task: str, end: float, how: str) -> str:
        await self._moment(end)
        return await self._asked_for(task, how)

    async def _asked_for(self, task: str, how: str) -> str:
        """The id of the run, empty when it was refused."""
        about = {"key": f"{how} {uuid4()}", "plan": self._plan.name}
        status, answer = await self._stage.client.until_answered("POST", f"/tasks/{task}/{how}", **about)
        if status != 202:
            return ""
        self._stage.runs.append(answer["run_id"])
        return str(answer["run_id"])


async def reopened(stage: Stage, rounds: int) -> None:
    """All of them end by themselves, and so do those of people who have nothing to do with it."""
    stage.tasks_follow = False

    async def quarrel(n: int) -> None:
        for done in range(0, rounds, MOST_ROUNDS):
            await Quarrel(stage, f"quarrel {n} after {done}").rounds(min(MOST_ROUNDS, rounds - done))

    async with Load(stage, clients=BYSTANDERS), stage.fault(f"{TASKS} times {rounds} quarrels about who goes on"):
        await asyncio.gather(*(quarrel(n) for n in range(TASKS)))


SCENARIOS = (Scenario("F10b", "orders to runs that are just failing", reopened, (4, 25, 400)),)
