"""The rule of orders to nodes: a history in which each took effect passes, and each planted wrong is named."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos.history import History, Record
from tests.chaos.node_rules import PATIENCE, orders_to_nodes_take_effect

RUN, SAYS = "run-1", "what olga wanted"
LATE = 103.0 + PATIENCE


def fact(at: float, level: str, key: str, by: str = "", **body: Any) -> Record:
    body |= {"key": key, "attempt": 1} | ({"by": f"{by}, admin (request 1)"} if by else {})
    about = {"id": f"{at} {level}", "position": 1, "run_id": RUN, "task_id": None, "told_at": at, "body": body}
    return {"kind": "fact", "level": level} | about


def order(at: float, action: str, key: str, actor: str, status: int = 200, **answer: Any) -> Record:
    about = {"began": at, "until": at + 0.1, "key": actor, "actor": actor, "run": RUN, "node": key, "action": action}
    says = {"says": SAYS} if action == "override" else {}
    return {"kind": "call", "method": "PATCH", "path": "/nodes/1", "status": status, "answer": answer} | about | says


def sound() -> list[Record]:
    """`a` was overridden after it had run, `b` is paused and resumed, `c` is skipped, and orders to `d` came too late."""
    return [
        {"kind": "plan", "name": "plan", "nodes": {key: [] for key in "abcd"}, "walked": ["d"]},
        {"kind": "call", "status": 202, "answer": {"run_id": RUN}, "plan": "plan"},
        {"kind": "run", "id": RUN, "nodes": {"a": "completed", "b": "completed", "c": "skipped", "d": "completed"}},
        {"kind": "model", "plan": "plan", "key": "a", "ordered_by": "olga", "outcome": "done", "status": 200},
        order(100, "override", "a", "olga", reopened=True),
        fact(100, "NODE_CONTROL_ASKED", "a", "olga"),
        fact(100.1, "NODE_OVERRIDDEN", "a", "olga"),
        fact(100.1, "RUN_REOPENED", "a"),
        fact(100.3, "NODE_COMPLETED", "a", output_preview=SAYS),
        order(101, "pause", "b", "paul"),
        fact(101, "NODE_CONTROL_ASKED", "b", "paul"),
        fact(101.1, "NODE_PAUSED", "b", "paul", reasons=["control"]),
        order(102, "resume", "b", "rita"),
        fact(102.1, "NODE_RESUMED", "b", "rita"),
        fact(LATE, "NODE_STARTED", "b"),
        order(103, "skip", "c", "susan"),
        fact(103.1, "NODE_SKIPPED", "c", "susan"),
        order(104, "skip", "d", "linus"),
        order(104.05, "skip", "d", "lara"),
        fact(104, "NODE_CONTROL_ASKED", "d", "linus"),
        fact(104.1, "NODE_CONTROL_LAPSED", "d", "linus", action="skip"),
        order(105, "pause", "d", "nora", status=409),
    ]


def wrongs(records: list[Record]) -> list[str]:
    return list(orders_to_nodes_take_effect(History(records)))


def without(*levels: str) -> Callable[[list[Record]], list[Record]]:
    return lambda records: [r for r in records if r.get("level") not in levels]


def without_order(actor: str) -> Callable[[list[Record]], list[Record]]:
    return lambda records: [r for r in records if r.get("actor") != actor]


def plus(*more: Record) -> Callable[[list[Record]], list[Record]]:
    return lambda records: [*records, *more]


def test_orders_that_took_effect_break_no_rule() -> None:
    assert wrongs(sound()) == []


WRONGS: dict[str, tuple[Callable[[list[Record]], list[Record]], str]] = {
    "an override that is not told": (without("NODE_CONTROL_ASKED"), "is told 0 times, and came to something 1 times"),
    "an override that came to nothing": (without("NODE_OVERRIDDEN"), "is told 1 times, and came to something 0 times"),
    "an override that happened twice": (
        plus(fact(100.2, "NODE_OVERRIDDEN", "a", "olga")),
        "came to something 2 times",
    ),
    "an override whose result is another": (
        plus(fact(100.4, "NODE_COMPLETED", "a", output_preview="as before")),
        "completed with 'as before'",
    ),
    "an override for which no model was called": (
        lambda records: [r for r in records if r["kind"] != "model"],
        "no model has answered olga",
    ),
    "a run that was to go on": (without("RUN_REOPENED"), "was to reopen the run, which stayed ended"),
    "a pause told twice": (plus(fact(101, "NODE_CONTROL_ASKED", "b", "paul")), "is told several times"),
    "a paused node that starts": (without_order("rita"), "pause of b of run run-1 by paul was accepted, and the node"),
    "a resumed node that stays paused": (without("NODE_RESUMED"), "was accepted, and the node stayed paused"),
    "a skip that came to nothing": (without("NODE_CONTROL_LAPSED"), "came to nothing: the node is completed"),
    "a refused order that took effect": (
        plus(fact(105.1, "NODE_PAUSED", "d", "nora", reasons=["control"])),
        "by nora was refused, and took effect: NODE_PAUSED",
    ),
    "a refused order that reached a model": (
        plus({"kind": "model", "ordered_by": "nora", "outcome": "open", "status": None}),
        "by nora was refused, and a model was called for it",
    ),
}


@pytest.mark.parametrize("wrong", WRONGS)
def test_the_rule_names(wrong: str) -> None:
    plant, named = WRONGS[wrong]
    found = wrongs(plant(copy.deepcopy(sound())))
    assert any(named in what for what in found), found
