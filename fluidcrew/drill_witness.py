"""Who saw it, beside ourselves: the model server's ledger and the HTTP client's own notes, and what they make of a drill."""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx

from deploy.local.environment import CHECKOUT
from deploy.local.process import Child, StartFailed
from fluidcrew.progress import moment

LAYERS, WIDTH = 6, 5
SECONDS_PER_CALL = 0.8
MARK = "drill-node:"
WORK = ("NODE_", "RUN_")


def nodes() -> list[dict[str, Any]]:
    """Thirty of them, each after two of the layer before; the model server reads its behaviour from the instructions."""
    return [_node(layer, n) for layer in range(LAYERS) for n in range(WIDTH)]


def _node(layer: int, n: int) -> dict[str, Any]:
    key = f"step-{layer + 1}{'abcde'[n]}"
    before = [f"step-{layer}{'abcde'[m % WIDTH]}" for m in (n, n + 1)] if layer else []
    instructions = f"{MARK}{key} slow:{SECONDS_PER_CALL} say:the result of {key}"
    return {"id": key, "title": f"Step {layer + 1}{'abcde'[n]}", "deps": before, "instructions": instructions}


@contextmanager
def model_server() -> Iterator[str]:
    """A model server on this machine, a process of its own: it answers what it is told to, and writes down every call."""
    child = Child("model server", [sys.executable, "-m", "chassis.testing.fake_openai"], None, cwd=CHECKOUT)
    child.launch()
    try:
        assert child.process is not None, "it has just been launched"
        assert child.process.stdout is not None, "its output is a pipe"
        url = child.process.stdout.readline().decode().strip()
        if not url:
            raise StartFailed("the model server of the drill did not start; try again with FLUIDCREW_DEBUG=1")
        yield url
    finally:
        child.stop_now(2.0)


@dataclass(frozen=True, slots=True)
class Seen:
    """A fact as the stream told it, and when it came."""

    id: str
    level: str
    key: str
    at: float
    arrived: float


@dataclass(slots=True)
class Witness:
    """Collects while the drill goes on; `verdict` compares."""

    ledger_url: str
    seen: list[Seen] = field(default_factory=list)
    accepted: dict[str, str] = field(default_factory=dict)  # tasks that were answered 201, by id

    def hear(self, event: Mapping[str, Any], arrived: float) -> None:
        told, at = json.loads(event["message"]), moment(event["timestamp"])
        assert isinstance(at, datetime), "the API writes times in ISO 8601"
        self.seen.append(Seen(event["id"], event["level"], str(told.get("key") or ""), at.timestamp(), arrived))

    def recovered(self, struck: float) -> float | None:
        """When the first fact came by which the run went on after a strike. Artifacts are made of what was there before."""
        return next((fact.arrived for fact in self.seen if fact.at > struck and fact.level.startswith(WORK)), None)

    async def calls(self) -> dict[str, list[Mapping[str, Any]]]:
        """By node, from the model server."""
        async with httpx.AsyncClient(timeout=10, trust_env=False) as http:
            found = (await http.get(f"{self.ledger_url.removesuffix('/v1')}/ledger")).json()
        calls: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for call in found:
            if MARK in call["user"]:
                calls[call["user"].partition(MARK)[2].split()[0]].append(call)
        return calls


@dataclass(frozen=True, slots=True)
class Verdict:
    """Each line of `lost` and `repeated` names one thing. `cut_off` calls were under way when a worker died."""

    lost: Sequence[str]
    repeated: Sequence[str]
    cut_off: int
    calls: int
    facts: int

    @property
    def clean(self) -> bool:
        return not self.lost and not self.repeated


def verdict(
    witness: Witness, calls: Mapping[str, Sequence[Mapping[str, Any]]], told: Sequence[str], tasks: Sequence[str]
) -> Verdict:
    """`told` are the ids of the run's facts as the API lists them in the end, `tasks` those of the tasks it tells of."""
    lost, repeated = [], []
    completed = {fact.key: fact.at for fact in witness.seen if fact.level == "NODE_COMPLETED"}
    for key in (node["id"] for node in nodes()):
        late = [call for call in calls.get(key, ()) if call["at"] > completed.get(key, float("inf"))]
        repeated += [f"{key} was called again after it had completed"] * len(late)
        if key not in completed or not any(call["outcome"] == "done" for call in calls.get(key, ())):
            lost.append(f"the result of {key}")
    seen = Counter(fact.id for fact in witness.seen)
    lost += [f"fact {id} in the stream" for id in told if id not in seen]
    repeated += [f"fact {id} came {times} times" for id, times in seen.items() if times > 1]
    made = Counter(tasks)
    lost += [f"the accepted task {title!r}" for id, title in witness.accepted.items() if not made[id]]
    repeated += [f"the accepted task {title!r}" for id, title in witness.accepted.items() if made[id] > 1]
    every = [call for of_node in calls.values() for call in of_node]
    cut_off = sum(call["outcome"] != "done" for call in every)
    return Verdict(lost, repeated, cut_off, len(every), len(seen))
