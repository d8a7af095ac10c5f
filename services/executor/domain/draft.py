"""A run while facts are applied to it: what has moved so far, and what is told of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from contracts.executor import NodeStatus, RunStatus
from contracts.message import Event
from contracts.run_facts import NodeFact, RunFact
from contracts.verdict import Verdict
from services.executor.domain.facts import Failed, Output, Succeeded, Unfunded
from services.executor.domain.graph import Plan
from services.executor.domain.run import (
    AttemptStatus,
    Closed,
    Guided,
    Node,
    Opened,
    Overridden,
    Run,
    Step,
    standing,
)
from services.executor.domain.status import NODE_LEGAL, RUN_LEGAL, moved


class Draft:
    """Only legal moves are possible here; which of them a fact makes is decided in the modules beside.

    `run` has what the run itself has become; its nodes, and what follows from them, are those of the draft.
    """

    def __init__(self, run: Run, now: datetime) -> None:
        self.run = run
        self.now = now
        self.nodes = dict(run.nodes)
        self.ready = list(run.ready)
        self.running = set(run.running)
        self.spend = run.spend
        self.messages: list[Event] = []
        self.opened: list[Opened] = []
        self.closed: list[Closed] = []
        self.moved: list[str] = []
        self.interrupted: list[str] = []
        self.requeued: list[str] = []
        self.overridden: list[Overridden] = []
        self.judged: list[tuple[Plan, Verdict]] = []
        self.guided: list[Guided] = []
        self.incomplete: list[int] = []

    @property
    def status(self) -> RunStatus:
        return self.run.status

    @property
    def pause_reasons(self) -> frozenset[str]:
        return self.run.pause_reasons

    @property
    def deadline(self) -> datetime | None:
        return self.run.deadline

    def outcome(self) -> Run:
        """The run as all facts so far have made it."""
        return self.run._replace(
            nodes=dict(self.nodes),
            ready=tuple(self.ready),
            running=frozenset(self.running),
            spend=self.spend,
        )

    def step(self) -> Step:
        return Step(
            self.outcome(),
            self.messages,
            self.moved,
            self.opened,
            self.closed,
            self.interrupted,
            self.requeued,
            self.overridden,
            self.judged,
            self.guided,
            self.incomplete,
        )

    def move_run(self, status: RunStatus, **changes: Any) -> None:
        self.run = self.run._replace(status=moved(RUN_LEGAL, self.run.status, status, "the run"), **changes)

    def move(self, node: Node, status: NodeStatus, **changes: Any) -> None:
        key = node.plan.key
        self.nodes[key] = node._replace(status=moved(NODE_LEGAL, node.status, status, key), parked_on=None, **changes)
        self.moved.append(key)

    def change(self, node: Node, **changes: Any) -> Node:
        """What is to be stored of a node that stays in its state."""
        key = node.plan.key
        self.nodes[key] = changed = node._replace(**changes)
        self.moved.append(key)
        return changed

    def open(self, node: Node, number: int) -> None:
        self.opened.append(Opened(node.plan, number))

    def close(
        self,
        node: Node,
        status: AttemptStatus,
        *,
        error: str | None = None,
        fact: Succeeded | Failed | Unfunded | None = None,
    ) -> None:
        self.running.discard(node.plan.key)
        if fact is None:
            self.closed.append(Closed(node.plan, node.attempt, status, error))
            return
        output: Output | None = fact.output if isinstance(fact, Succeeded) else None
        warnings = fact.warnings if isinstance(fact, Succeeded) else ()
        self.closed.append(Closed(node.plan, node.attempt, status, error, fact.effort, output, warnings))
        if fact.effort.spend.requests:
            self.spend = self.spend + fact.effort.spend

    def running_in_order(self) -> list[str]:
        return [key for key in self.run.graph.plans if key in self.running]

    def recount(self) -> None:
        """Who is blocked and who is ready, anew: results that others stood on are gone."""
        self.nodes, ready, running = standing(self.run.graph, self.nodes.values())
        self.ready, self.running = list(ready), set(running)

    def tell_run(self, fact: Callable[..., RunFact], **body: Any) -> None:
        run = self.run
        about = {"run_id": run.id, "task_id": run.task_id, "title": run.title, "activation": run.activation}
        self.messages.append(fact(company=run.company, **about, **body))

    def tell_node(self, fact: Callable[..., NodeFact], node: Node, attempt: int, **body: Any) -> None:
        about = {"run_id": self.run.id, "node_id": node.plan.id, "key": node.plan.key, "attempt": attempt}
        self.messages.append(fact(company=self.run.company, **about, **body))

    def leave_open(self) -> None:
        """What was told last is about a result, or costs, that only the database knows."""
        self.incomplete.append(len(self.messages) - 1)
