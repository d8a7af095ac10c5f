"""The legal life of runs and nodes as a watcher knows it: written down once more, apart from the product's own mapping."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tests.chaos.history import Fact, History

Move = tuple[frozenset[str], str]  # from which states, to which


def _from(states: str, to: str) -> Move:
    return frozenset(states.split()), to


#: a fact that is not named here moves nothing
RUN_MOVES: Mapping[str, Move] = {
    "RUN_QUEUED": _from("new", "queued"),
    "RUN_STARTED": _from("queued paused reopened", "running"),
    "RUN_REOPENED": _from("failed completed", "reopened"),
    "RUN_RESUMED": _from("paused reopened", "running"),
    "RUN_PAUSED": _from("queued running", "paused"),
    "RUN_COMPLETED": _from("queued running paused failed", "completed"),
    "RUN_FAILED": _from("queued running paused", "failed"),
    "RUN_CANCELED": _from("queued running paused", "canceled"),
}
NODE_MOVES: Mapping[str, Move] = {
    "NODE_REUSED": _from("queued", "completed"),
    "NODE_STARTED": _from("queued", "running"),
    "NODE_INTERRUPTED": _from("running", "queued"),
    "NODE_RETRIED": _from("running reviewing", "queued"),
    "NODE_REVIEWING": _from("running", "reviewing"),
    "NODE_COMPLETED": _from("running reviewing paused", "completed"),
    "NODE_PAUSED": _from("queued running reviewing completed", "paused"),
    "NODE_RESUMED": _from("paused", "queued"),
    "NODE_REQUEUED": _from("completed failed reviewing paused", "queued"),
    "NODE_FAILED": _from("running reviewing", "failed"),
    "NODE_SKIPPED": _from("queued running paused failed", "skipped"),
    "NODE_CANCELED": _from("queued running reviewing paused", "canceled"),
}
DONE = {"completed", "skipped"}


@dataclass
class Life:
    """One run as its facts tell it."""

    deps: Mapping[str, list[str]]
    state: str = "new"
    nodes: dict[str, str] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)

    def move(self, fact: Fact) -> Iterator[str]:
        if fact.level in RUN_MOVES:
            yield from self._move_run(fact.level)
        elif fact.level in NODE_MOVES:
            yield from self._move_node(fact.level, fact.body["key"], fact.body["attempt"])

    def _move_run(self, level: str) -> Iterator[str]:
        before, after = RUN_MOVES[level]
        if self.state not in before:
            yield f"{level} while it was {self.state}"
        if level == "RUN_COMPLETED" and (left := [k for k in self.deps if self.nodes.get(k) not in DONE]):
            yield f"{level} while {', '.join(left[:3])} is not done"
        self.state = after

    def _move_node(self, level: str, key: str, attempt: int) -> Iterator[str]:
        before, after = NODE_MOVES[level]
        state = self.nodes.get(key, "queued")
        if state not in before:
            yield f"{level} of {key} while it was {state}"
        if level == "NODE_STARTED":
            yield from self._start(key, attempt)
        elif state in ("running", "reviewing") and attempt != self.attempts.get(key):
            yield f"{level} of {key} for attempt {attempt}, the current one is {self.attempts.get(key)}"
        self.nodes[key] = after

    def _start(self, key: str, attempt: int) -> Iterator[str]:
        if self.state != "running":
            yield f"NODE_STARTED of {key} while the run was {self.state}"
        if waits := [dep for dep in self.deps.get(key, ()) if self.nodes.get(dep) not in DONE]:
            yield f"NODE_STARTED of {key} before {waits[0]} was done"
        if attempt != self.attempts.get(key, 0) + 1:
            yield f"attempt {attempt} of {key} follows attempt {self.attempts.get(key, 0)}"
        self.attempts[key] = attempt


def only_legal_moves(history: History) -> Iterator[str]:
    for run, facts in history.by_run.items():
        if run not in history.runs:
            continue
        life = Life(history.plans.get(history.launched.get(run, ""), {}).get("nodes", {}))
        for fact in facts:
            for wrong in life.move(fact):
                yield f"run {run}: {wrong}"
        if life.state != history.runs[run]["status"]:
            yield f"run {run} is told as {life.state}, and shown as {history.runs[run]['status']}"
