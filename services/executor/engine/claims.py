"""Rebuilds a claimed run from its rows: the domain's view of it, and the brief by which its nodes are executed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from chassis.context import Context
from contracts.executor import NodeStatus, RunStatus
from contracts.plan import Gate, NodeKind
from contracts.verdict import Source
from services.executor.domain.facts import NOTHING, Spend
from services.executor.domain.graph import Graph, Plan
from services.executor.domain.retry import MAX_ATTEMPTS
from services.executor.domain.run import Heard, Node, ReviewRules, Run, standing

Row = asyncpg.Record
NO_RULES = ReviewRules()


@dataclass(frozen=True, slots=True)
class Brief:
    """What does not change while a run is executed, and is no business of the domain's."""

    walked: frozenset[str]  # nodes that nobody works on: they are done as soon as their turn has come
    context: Context


def rebuilt(row: Row, node_rows: Sequence[Row], review: ReviewRules = NO_RULES) -> tuple[Run, Brief]:
    walked = frozenset(n["key"] for n in node_rows if row["dry_run"] or n["kind"] == NodeKind.NOOP)
    graph = Graph.of([_plan(n, Gate.OFF if n["key"] in walked else Gate(row["gate"])) for n in node_rows])
    nodes, ready, running = standing(graph, [_node(n, graph.plans[n["key"]]) for n in node_rows])
    run = Run(
        id=row["id"],
        company=row["company_id"],
        task_id=row["task_id"],
        title=row["title"],
        graph=graph,
        timeout=row["timeout"],
        status=RunStatus(row["status"]),
        nodes=nodes,
        ready=ready,
        running=running,
        pause_reasons=frozenset(row["pause_reasons"]),
        error=row["error"],
        time_left=row["time_left"],
        deadline=row["deadline_at"],
        spend=sum((Spend.of(n) for n in node_rows), start=NOTHING),
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        project=row["project_id"],
        review=review if row["gate"] == Gate.GATE else NO_RULES,
        activation=row["activation"],
    )
    return run, Brief(walked, Context.of(row["context"]))


def _plan(row: Row, gate: Gate) -> Plan:
    attempts = row["max_attempts"] or MAX_ATTEMPTS
    about = (row["id"], row["key"], row["title"], row["role"], tuple(row["deps"]), attempts)
    return Plan(*about, agent_id=row["agent_id"], gate=gate)


def _node(row: Row, plan: Plan) -> Node:
    return Node(
        plan,
        status=NodeStatus(row["status"]),
        attempt=row["attempt"],
        failures=row["failures"],
        losses=row["losses"],
        waits=row["waits"],
        due_at=row["due_at"],
        error=row["error"],
        pause_reasons=frozenset(row["pause_reasons"]),
        parked_on=row["parked_on"],
        heard=_heard(row["verdict"]),
    )


def _heard(verdict: dict[str, Any] | None) -> Heard | None:
    if verdict is None:
        return None
    return Heard(
        verdict["version"], verdict["score"], verdict["reviewer"] if verdict["source"] == Source.HUMAN else None
    )
