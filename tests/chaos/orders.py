"""Orders to nodes, as a client gives them: each under a name of its own, by which facts and the ledger tell it again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from chassis.testing.fake_answers import Call
from tests.system.ledger import Plan

if TYPE_CHECKING:
    from tests.chaos.stage import Stage

ORDER = re.compile(r"\bordered-by:(\S+)")


@dataclass(frozen=True, slots=True)
class NodeOrder:
    action: str
    mode: str = "finish"


@dataclass(frozen=True, slots=True)
class Aim:
    """The node that is meant, by its key."""

    plan: Plan
    run: str
    key: str


async def give(stage: Stage, order: NodeOrder, to: Aim) -> bool:
    """Whether it was accepted."""
    actor = f"somebody-{uuid4().hex[:12]}"
    body: dict[str, Any] = {"action": order.action, "mode": order.mode}
    about = {"run": to.run, "node": to.key, "action": order.action, "again": again(order, to)}
    if order.action == "override":
        about["says"] = f"what {actor} wanted"
        body["prompt"] = f"mark:{to.plan.name}/{to.key} ordered-by:{actor} say:{about['says']}"
    path = f"/nodes/{await stage.node_of(to.run, to.key)}"
    status, _ = await stage.client.until_answered("PATCH", path, body, key=f"order {actor}", actor=actor, **about)
    return status == 200


def again(order: NodeOrder, to: Aim) -> int:
    """How many calls more than planned it may bring about: those of the node, and of all that stands on its result."""
    if order.action == "override":
        return sum(node.get("kind") != "noop" for node in standing_on(to.plan, to.key))
    return 1 if order.mode == "interrupt" else 0


def standing_on(plan: Plan, key: str) -> list[dict[str, Any]]:
    """With the node itself. Plans name nodes after those they depend on."""
    found: dict[str, dict[str, Any]] = {}
    for node in plan.nodes:
        if node["id"] == key or any(dep in found for dep in node["deps"]):
            found[node["id"]] = node
    return list(found.values())


def ordered_by(call: Call) -> str:
    """Whose override the call is for, if it is for one."""
    found = ORDER.search(call.user)
    return found[1] if found else ""
