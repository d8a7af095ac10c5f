"""Who does which node, and what does a run get to execute?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from contracts.executor import RunNode
from contracts.plan import Assignment, PlanGraph, PlanNode
from services.planner.domain.graph import completed, order

GENERALIST = "generalist"  # who does a node whose plan suggests nobody


def unknown_nodes(graph: PlanGraph, items: Iterable[Assignment]) -> list[str]:
    known = {node.id for node in graph.plan}
    return list(dict.fromkeys(item.node_id for item in items if item.node_id not in known))


def of_this_graph(graph: PlanGraph | None, items: Iterable[Assignment]) -> list[Assignment]:
    """Assignments of nodes that a later version dropped are kept, because it may take them up again, but not shown."""
    place = {node.id: index for index, node in enumerate(graph.plan)} if graph else {}
    return sorted((item for item in items if item.node_id in place), key=lambda item: place[item.node_id])


def recruited(graph: PlanGraph, taken: Iterable[Assignment], backend: str, model: str) -> list[Assignment]:
    """An assignment for every node that has none: its suggested role, with the given provider and model."""
    assigned = {item.node_id for item in taken}
    return [_recruit(node, backend, model) for node in graph.plan if node.id not in assigned]


def _recruit(node: PlanNode, backend: str, model: str) -> Assignment:
    role = node.suggested_agent_role or GENERALIST
    agent = f"auto-{slug(role)}"
    return Assignment(node_id=node.id, role=role, agent_id=agent, llm_backend=backend, llm_model=model)


def slug(role: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", role.casefold()).strip("-")[:60] or GENERALIST


def freeze(
    graph: PlanGraph,
    assignments: Iterable[Assignment],
    *,
    llm_backend: str | None = None,
    llm_model: str | None = None,
    params: Mapping[str, Any] | None = None,
) -> list[RunNode]:
    """The nodes of a sound graph as they will be executed, dependencies first.

    Provider and model hold for nodes whose assignment names neither: a model belongs to its provider, so the two are
    never mixed. `params` are defaults that the node's and then the assignment's own override.
    """
    nodes = {node.id: node for node in completed(graph).plan}
    by_node = {item.node_id: item for item in assignments}
    return [
        _frozen(nodes[key], by_node.get(key) or Assignment(node_id=key), (llm_backend, llm_model), params or {})
        for key in order(graph)
    ]


def _frozen(
    node: PlanNode, item: Assignment, default: tuple[str | None, str | None], params: Mapping[str, Any]
) -> RunNode:
    own = (item.llm_backend, item.llm_model)
    backend, model = own if any(own) else default
    return RunNode(
        key=node.id,
        role=item.role or node.suggested_agent_role,
        agent_id=item.agent_id,
        llm_backend=backend,
        llm_model=model,
        fallbacks=item.fallbacks,
        params={**params, **node.params, **item.params},
        **node.model_dump(exclude={"id", "suggested_agent_role", "params"}),
    )


def with_acceptance(graph: PlanGraph, acceptance: Sequence[str]) -> PlanGraph:
    """What the whole task must satisfy, asked of the nodes nobody depends on: theirs are the final results."""
    needed = {dep for node in completed(graph).plan for dep in node.deps}
    nodes = [
        node if node.id in needed else node.model_copy(update={"acceptance": [*node.acceptance, *acceptance]})
        for node in graph.plan
    ]
    return graph.model_copy(update={"plan": nodes}) if acceptance else graph
