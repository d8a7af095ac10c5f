"""A play with the gate on: what is to be judged, the clients who answer what is held, and what is noted in the end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import wraps
from random import Random
from typing import Any

from chassis.testing.eventually import eventually
from tests.chaos.delivery import consumed
from tests.chaos.orders import Aim
from tests.chaos.people import FINE, POOR, Opinion, attended, judge
from tests.chaos.review_rules import GATE
from tests.chaos.scenarios import Load, Play
from tests.chaos.stage import Stage
from tests.system.ledger import Plan
from tests.system.world import as_the_keeper

CLIENTS = 3
WIDTH = 4
PAGE = 200
BOOKED = 40.0  # seconds in which what was called is in the books
HEARD = 5.0  # seconds in which a node has heard its verdict
REVIEW_JOBS = "select count(*) as open from feedback.jobs where kind = 'review' and state in ('queued', 'running')"


def to_be_judged(dice: Random) -> Plan:
    """A root, its branches and their end. Some are poor at first, and learn or do not."""
    plan = Plan()

    def add(key: str, *deps: str) -> None:
        grade = dice.choice((90, 90, 90, 35))
        words = f"slow:0.02 ponders:{dice.uniform(0.02, 0.4):.2f} learns:{dice.choice((35, 80))}"
        plan.node(key, *deps, words=words, say=f"grade:{grade} the work of {key}")

    add("root")
    for n in range(WIDTH):
        add(f"branch-{n}", "root")
    plan.node("walk", *(f"branch-{n}" for n in range(WIDTH)), kind="noop")
    add("end", "walk")
    return plan


class Reviewed(Load):
    """Clients whose runs are gated, and who answer what is held. `moody` ones change their minds about a good result."""

    def __init__(self, stage: Stage, least: int, *, moody: bool = False) -> None:
        super().__init__(stage, least, CLIENTS)
        self._moody = moody
        self.under_way: dict[str, Plan] = {}

    async def _submit(self, name: str) -> None:
        stage, dice = self._stage, self._stage.dice(name)
        while not self._over.is_set() or len(stage.runs) < self._least:
            plan = to_be_judged(dice)
            run = await stage.client.launch(plan, gate=GATE)
            stage.runs.append(run)
            self.under_way[run] = plan
            if self._moody:
                await change_one_s_mind(stage, Aim(plan, run, "root"))
            await attended(stage, plan, run)
            del self.under_way[run]


async def change_one_s_mind(stage: Stage, to: Aim) -> None:
    """Stops what the judge let go, and lets it go again."""
    attempt = await eventually(lambda: _counts(stage, to), timeout=stage.ending, interval=0.05, what="a good result")
    await judge(stage, to, Opinion(attempt, POOR))
    await judge(stage, to, Opinion(attempt, FINE))


async def _counts(stage: Stage, to: Aim) -> int:
    """The attempt whose result counts; a root that a person has to release first is released."""
    found = await stage.got(f"/runs/{to.run}")
    node = next(node for node in found["dag"]["nodes"] if node["key"] == to.key)
    if node["status"] == "paused":
        await judge(stage, to, Opinion(node["attempt"], FINE))
    return int(node["attempt"]) if node["status"] == "completed" else 0


def gated(play: Play) -> Play:
    """Judged when every review is over and booked."""

    @wraps(play)
    async def whole(stage: Stage, amount: int) -> None:
        stage.tasks_follow = False
        await play(stage, amount)
        if not stage.collected:
            await collected(stage)

    return whole


async def collected(stage: Stage) -> None:
    await stage.settled()
    await reviews_are_over(stage)
    await note_reviews(stage)
    await stage.collect()


async def reviews_are_over(stage: Stage) -> None:
    async def all_of_them() -> bool:
        return (await stage.world.rows(REVIEW_JOBS))[0]["open"] == 0

    try:
        await eventually(all_of_them, timeout=min(BOOKED, stage.ending), interval=0.1)
    except AssertionError:
        stage.recorder.note("late", what="the last review")
    async with as_the_keeper(stage.world) as js:
        await consumed(js)


async def note_reviews(stage: Stage) -> None:
    """What the API shows of each run's feedbacks, books and nodes, once nodes have heard the verdicts in force."""
    for run in dict.fromkeys(stage.runs):
        said = await _feedbacks(stage, run)
        found = await _obedient(stage, run, said)
        for each in said:
            shown = {name: each[name] for name in ("id", "attempt", "source", "score", "reviewer", "in_force")}
            stage.recorder.note("feedback", run=run, key=each["node_key"], **shown)
        summary = found["summary"]
        books = {"calls": summary["llm_request_count"], "cost": float(summary["cost_usd"] or 0)}
        books["estimated"] = summary["estimated_calls"]
        stage.recorder.note("books", run=run, **books)
        for node in found["dag"]["nodes"]:
            verdict = node["verdict"] or {}
            about = {"verdict": verdict.get("feedback_id"), "effect": verdict.get("effect", "note")}
            about |= {"key": node["key"], "status": node["status"], "attempt": node["attempt"]}
            if found["status"] != "canceled":
                stage.recorder.note("node", run=run, **about)


async def _feedbacks(stage: Stage, run: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        page = await stage.got("/feedbacks", run_id=run, limit=PAGE, offset=len(found), order_by="created_at")
        found += page["items"]
        if len(page["items"]) < PAGE:
            return found


async def _obedient(stage: Stage, run: str, said: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The run as it is then; as it is anyway, when its nodes do not come to heed what is in force."""
    force = {(each["node_id"], each["attempt"]): each["id"] for each in said if each["in_force"]}
    deadline = asyncio.get_running_loop().time() + HEARD
    while True:
        found: dict[str, Any] = await stage.got(f"/runs/{run}")
        heard = {(n["id"], n["attempt"]): (n["verdict"] or {}).get("feedback_id") for n in found["dag"]["nodes"]}
        if all(heard.get(attempt, id) == id for attempt, id in force.items()) or found["status"] == "canceled":
            return found
        if asyncio.get_running_loop().time() > deadline:
            return found
        await asyncio.sleep(0.1)
