"""What is known of a run while it goes on: its nodes as the API listed them, moved on by each fact that arrives."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

FINAL = frozenset({"completed", "failed", "canceled"})
NODE_OVER = frozenset({"completed", "failed", "skipped", "canceled"})
NODE_DONE = frozenset({"completed", "skipped"})
RUN_STATUS = {
    "RUN_QUEUED": "queued",
    "RUN_STARTED": "running",
    "RUN_RESUMED": "running",
    "RUN_REOPENED": "running",
    "RUN_PAUSED": "paused",
    "RUN_COMPLETED": "completed",
    "RUN_FAILED": "failed",
    "RUN_CANCELED": "canceled",
}
BY_ORDER = "control"  # the reason to pause that people give
VERDICT = "verdict"  # the reason to pause that a verdict is
ASKED = {"pause": "pause requested", "cancel": "cancel requested"}
NODE_STATUS = {
    "NODE_STARTED": "running",
    "NODE_COMPLETED": "completed",
    "NODE_RETRIED": "queued",
    "NODE_FAILED": "failed",
    "NODE_SKIPPED": "skipped",
    "NODE_CANCELED": "canceled",
    "NODE_REVIEWING": "reviewing",  # unless the gate only observes
    "NODE_PAUSED": "paused",
    "NODE_RESUMED": "queued",
    "NODE_INTERRUPTED": "queued",
    "NODE_REQUEUED": "queued",
    "NODE_PARKED": "queued",
    "NODE_REUSED": "completed",
}


class Cost(NamedTuple):
    """`usd` is None when nothing of it is known. Of `estimated` calls it has the most that they can have cost; `unpriced`
    calls are not in it."""

    usd: Decimal | None = Decimal(0)
    estimated: int = 0
    unpriced: int = 0

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Cost:
        """From the usage of the API, or whatever has the same fields."""
        usd = money(told.get("cost_usd", "0"))
        return cls(usd, int(told.get("estimated_calls") or 0), int(told.get("unpriced_calls") or (usd is None)))


NO_COST = Cost()


def total(costs: Sequence[Cost]) -> Cost:
    usd = sum((cost.usd for cost in costs if cost.usd is not None), Decimal(0))
    unpriced = sum(cost.unpriced for cost in costs)
    return Cost(usd if usd or not unpriced else None, sum(cost.estimated for cost in costs), unpriced)


@dataclass(slots=True)
class NodeView:
    """Times are the server's."""

    id: str
    key: str
    title: str
    deps: tuple[str, ...] = ()
    status: str = "queued"
    role: str = ""
    attempt: int = 0
    model: str = ""
    tokens: int = 0
    cost: Cost = NO_COST
    started_at: datetime | None = None
    duration_ms: int | None = None
    error: str = ""
    due_at: datetime | None = None  # when a failed attempt is repeated, or its provider may be back
    reused: bool = False  # its result is that of an earlier run
    score: int | None = None  # of the verdict in force on its latest attempt
    held: bool = False  # a person has to say whether its result counts
    critique: str = ""

    @classmethod
    def of(cls, node: Mapping[str, Any]) -> NodeView:
        """From a Node of the API."""
        view = cls(
            str(node["id"]), str(node["key"]), str(node.get("title") or node["key"]), tuple(node.get("deps") or ())
        )
        view.status, view.role = str(node.get("status") or "queued"), str(node.get("role") or "")
        view.attempt, view.model = int(node.get("attempt") or 0), str(node.get("model") or "")
        view.started_at, view.duration_ms = moment(node.get("started_at")), node.get("duration_ms")
        view.error, view.due_at = str(node.get("error") or ""), moment(node.get("due_at"))
        view.reused = node.get("reused_from") is not None
        view.spend(node.get("usage"))
        view.judge(node.get("verdict"))
        view.held = view.held or (view.status == "paused" and VERDICT in (node.get("pause_reasons") or ()))
        return view

    def judge(self, verdict: Any) -> None:
        """By a verdict of the API, or the fact of one; what is about another attempt says nothing of this one."""
        if isinstance(verdict, Mapping) and int(verdict.get("attempt") or 0) == self.attempt:
            self.score, self.held = verdict.get("score"), verdict.get("effect") == "hold"
            self.critique = str(verdict.get("critique") or "")

    def spend(self, usage: Any) -> None:
        if isinstance(usage, Mapping):
            self.tokens = int(usage.get("prompt_tokens") or 0) + int(usage.get("completion_tokens") or 0)
            self.cost = Cost.of(usage)


@dataclass(frozen=True, slots=True)
class Happened:
    """An Event of the API: one fact of the run."""

    level: str
    at: datetime | None
    told: Mapping[str, Any]

    @classmethod
    def of(cls, event: Mapping[str, Any]) -> Happened:
        return cls(str(event.get("level", "")), moment(event.get("timestamp")), _told(event.get("message")))


@dataclass(slots=True)
class RunView:
    id: str
    title: str = ""
    status: str = "queued"
    reasons: tuple[str, ...] = ()
    asked: str = ""  # what people want of it and is not so yet
    error: str = ""
    dry_run: bool = False
    started_at: datetime | None = None
    ended_at: datetime | None = None
    nodes: dict[str, NodeView] = field(default_factory=dict)  # by key

    @classmethod
    def of(cls, run: Mapping[str, Any], nodes: Iterable[Mapping[str, Any]]) -> RunView:
        """From a Run of the API and the list of its nodes."""
        view = cls(str(run["id"]), str(run.get("title") or ""), str(run.get("status") or "queued"))
        view.dry_run, view.error = bool(run.get("dry_run")), str(run.get("error") or "")
        view.reasons = tuple(run.get("pause_reasons") or ())
        control = run.get("control") or {}
        if control.get("wanted") in ASKED and not control.get("effective_at") and not view.over:
            view.asked = ASKED[control["wanted"]]
        view.started_at, view.ended_at = moment(run.get("started_at")), moment(run.get("ended_at"))
        view.nodes = {found.key: found for found in map(NodeView.of, nodes)}
        return view

    @property
    def over(self) -> bool:
        return self.status in FINAL

    @property
    def ended(self) -> int:
        return sum(node.status in NODE_OVER for node in self.nodes.values())

    @property
    def completed(self) -> int:
        return sum(node.status in NODE_DONE for node in self.nodes.values())

    @property
    def held(self) -> list[NodeView]:
        """What waits for a person's word."""
        return [node for node in self.nodes.values() if node.held]

    def state_of(self, node: NodeView) -> str:
        """A node that waited when its run ended waits for nothing any more."""
        return "not started" if self.over and node.status == "queued" else node.status

    @property
    def tokens(self) -> int:
        return sum(node.tokens for node in self.nodes.values())

    @property
    def cost(self) -> Cost:
        return total([node.cost for node in self.nodes.values()])

    def apply(self, happened: Happened) -> None:
        if happened.level == "RUN_CONTROL_ASKED":
            self.asked = ASKED.get(str(happened.told.get("action")), "")
        elif status := RUN_STATUS.get(happened.level):
            self._move(status, happened)
        elif happened.level == "VERDICT_GIVEN":
            self._judge(happened)
        elif (status := NODE_STATUS.get(happened.level)) and not _only_observed(happened):
            self._move_node(status, happened)

    def _judge(self, happened: Happened) -> None:
        if (node := self.nodes.get(str(happened.told.get("key")))) is not None:
            node.judge(happened.told)

    def _move(self, status: str, happened: Happened) -> None:
        self.status, self.asked = status, ""
        self.title = str(happened.told.get("title") or self.title)
        self.reasons = tuple(happened.told.get("reasons") or ()) if status == "paused" else ()
        self.error = str(happened.told.get("reason") or "") if status == "failed" else ""
        if happened.level == "RUN_STARTED":
            self.started_at = self.started_at or happened.at
        self.ended_at = happened.at if status in FINAL else None

    def _move_node(self, status: str, happened: Happened) -> None:
        told = happened.told
        key = str(told.get("key") or "")
        if not key:
            return
        node = self.nodes.setdefault(key, NodeView(str(told.get("node_id") or ""), key, str(told.get("title") or key)))
        node.status, node.attempt = status, int(told.get("attempt") or node.attempt)
        node.error, node.due_at = str(told.get("error") or ""), moment(told.get("due_at") or told.get("until"))
        node.reused = happened.level == "NODE_REUSED"
        node.held = status == "paused" and VERDICT in (told.get("reasons") or ())
        if status == "running":
            node.started_at, node.duration_ms, node.score = happened.at, None, None
        if status == "completed":
            node.duration_ms, node.model = told.get("duration_ms"), str(told.get("model") or "")
            node.spend(told.get("usage"))
            node.score = node.score if told.get("score") is None else told["score"]


def _only_observed(happened: Happened) -> bool:
    """Where the gate only observes, the node is completed already when its review begins."""
    return happened.level == "NODE_REVIEWING" and happened.told.get("gate") == "observe"


def money(text: Any) -> Decimal | None:
    try:
        return None if text is None else Decimal(str(text))
    except InvalidOperation:
        return None


def moment(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _told(message: Any) -> Mapping[str, Any]:
    """`message` is the fact as a JSON string, as the predecessor had it."""
    try:
        told = json.loads(message) if isinstance(message, str) else message
    except ValueError:
        return {}
    return told if isinstance(told, Mapping) else {}
