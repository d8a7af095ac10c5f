"""People who judge results over HTTP: what they say, whom they ask for another attempt, and until nothing waits for them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from tests.chaos.history import ENDS
from tests.chaos.orders import Aim, standing_on
from tests.chaos.stage import Stage
from tests.system.ledger import Plan

FINE, POOR = 85, 20
LOOK = 0.15  # seconds


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a person says of an attempt; `seen` is the feedback they saw, if they name it."""

    attempt: int
    score: int
    seen: str | None = None


async def judge(stage: Stage, to: Aim, opinion: Opinion) -> bool:
    """Whether it was accepted. Every second time the same is said again, as if the answer had been lost."""
    who = f"judge-{uuid4().hex[:12]}"
    node = await stage.node_of(to.run, to.key)
    said = {"attempt": opinion.attempt, "score": opinion.score}
    body = {"run_id": to.run, "node_id": node, "reviewer": who, "comment": "as a person sees it", **said}
    if opinion.seen is not None:
        body["seen"] = opinion.seen
    about = {"run": to.run, "of_node": to.key, "judges": True, "key": f"verdict {who}", "request_id": who, **said}
    status, _ = await stage.client.until_answered("POST", "/feedbacks", body, **about)
    if stage.people.random() < 0.5:
        await stage.client.until_answered("POST", "/feedbacks", body, **about)
    return status == 201


async def rerun(stage: Stage, to: Aim, grade: int | None = None, words: str = "") -> int:
    """The number of the attempt that follows; 0 when it was refused. With a grade, its author is told something else."""
    actor = f"somebody-{uuid4().hex[:12]}"
    again = sum(node.get("kind") != "noop" for node in standing_on(to.plan, to.key))
    about = {"run": to.run, "node": to.key, "action": "rerun", "again": again, "actor": actor}
    body = {"instructions": "once more, and better"}
    if grade is not None:
        about["says"] = f"grade:{grade} the work of {to.key}"
        body["prompt"] = f"mark:{to.plan.name}/{to.key} ordered-by:{actor} {words} say:{about['says']}"
    path = f"/nodes/{await stage.node_of(to.run, to.key)}/rerun"
    status, answer = await stage.client.until_answered("POST", path, body, key=f"rerun {actor}", **about)
    if stage.people.random() < 0.5:
        await stage.client.until_answered("POST", path, body, key=f"rerun {actor}", **about)
    return int(answer["attempt"]) if status == 202 else 0


async def attended(stage: Stage, plan: Plan, run: str) -> None:
    """A person answers whatever is held, until the run is over and needs nobody; rules find what never is."""
    deadline = asyncio.get_running_loop().time() + stage.ending
    while asyncio.get_running_loop().time() < deadline:
        found = await stage.client.get(f"/runs/{run}")
        if found is None:
            await asyncio.sleep(LOOK)
            continue
        if found["status"] in ENDS.values() and not found["needs_attention"]:
            return
        page = await stage.client.get("/reviews", run_id=run, limit=200)
        for held in page["items"] if page is not None else ():
            await _answer(stage, Aim(plan, run, held["key"]), held)
        await asyncio.sleep(LOOK)


async def _answer(stage: Stage, to: Aim, held: dict[str, Any]) -> None:
    """First whether the product says why it waits; then, as the dice fall, it counts or is done once more."""
    await _note_waiting(stage, to)
    if stage.people.random() < 0.5:
        seen = held["verdict"]["feedback_id"] if held["verdict"] else None
        await judge(stage, to, Opinion(held["attempt"], FINE, seen))
    else:
        await rerun(stage, to, FINE, "slow:0.02 ponders:0.05")


async def _note_waiting(stage: Stage, to: Aim) -> None:
    found, why = await stage.client.get(f"/runs/{to.run}"), await stage.client.get(f"/runs/{to.run}/waiting")
    if found is None or why is None or not _is_held(found, to.key):
        return
    shown = [{name: item[name] for name in ("key", "reason", "detail", "release")} for item in why["items"]]
    about = {"needs_attention": found["needs_attention"], "items": shown}
    stage.recorder.note("waiting", run=to.run, node=to.key, **about)


def _is_held(run: dict[str, Any], key: str) -> bool:
    """In a run that has ended nothing waits: it only shows what a person found wanting."""
    states = {node["key"]: node["status"] for node in run["dag"]["nodes"]}
    return run["status"] not in ENDS.values() and states[key] == "paused"
