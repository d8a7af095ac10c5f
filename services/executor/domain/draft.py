"""A run while one fact is applied to it: what has moved so far, and what is told of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from contracts.executor import NodeStatus, RunStatus
from contracts.message import Event
from contracts.run_facts import NodeFact, RunFact
from services.executor.domain.facts import Failed, Output, Succeeded
from services.executor.domain.run import AttemptStatus, Closed, Node, Opened, Overridden, Run, Step, standing
from services.executor.domain.status import NODE_LEGAL, RUN_LEGAL, moved


class Draft:
    """Only legal moves are possible here; which of them a fact makes is decided in the modules beside."""

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

    def step(self) -> Step:
        run = self.run._replace(
            nodes=self.nodes,
            ready=tuple(self.ready),
            running=frozenset(self.running),
            spend=self.spend,
        )
        return Step(
            run,
            self.messages,
            self.moved,
            self.opened,
            self.closed,
            self.interrupted,
            self.requeued,
            self.overridden,
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
        self, node: Node, status: AttemptStatus, *, error: str | None = None, fact: Succeeded | Failed | None = None
    ) -> None:
        self.running.discard(node.plan.key)
        if fact is None:
            self.closed.append(Closed(node.plan, node.attempt, status, error))
            return
        output: Output | None = fact.output if isinstance(fact, Succeeded) else None
        self.closed.append(Closed(node.plan, node.attempt, status, error, fact.effort, output))
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
        self.messages.append(fact(company=run.company, run_id=run.id, task_id=run.task_id, title=run.title, **body))

    def tell_node(self, fact: Callable[..., NodeFact], node: Node, attempt: int, **body: Any) -> None:
        about = {"run_id": self.run.id, "node_id": node.plan.id, "key": node.plan.key, "attempt": attempt}
        self.messages.append(fact(company=self.run.company, **about, **body))
