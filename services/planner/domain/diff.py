"""What changed between two versions of a plan?"""

from __future__ import annotations

from uuid import UUID

from contracts.plan import PlanGraph, PlanNode
from contracts.planner import ChangedNode, FieldChange, PlanDiff

EMPTY = PlanGraph(plan=[])


def diff(plan_id: UUID, previous: tuple[int, PlanGraph | None], current: tuple[int, PlanGraph | None]) -> PlanDiff:
    """A version without a graph (the supervisor gave none) counts as empty. The order of nodes is no difference."""
    old, new = previous[1] or EMPTY, current[1] or EMPTY
    before, after = {n.id: n for n in old.plan}, {n.id: n for n in new.plan}
    return PlanDiff(
        plan_id=plan_id,
        current_version=current[0],
        previous_version=previous[0],
        added_nodes=[node for key, node in after.items() if key not in before],
        removed_nodes=[node for key, node in before.items() if key not in after],
        changed_nodes=[
            ChangedNode(id=key, changes=changes)
            for key, node in after.items()
            if key in before and (changes := _changes(before[key], node))
        ],
        added_edges=_edges(new, but_not=old),
        removed_edges=_edges(old, but_not=new),
    )


def _fields(node: PlanNode) -> dict[str, object]:
    fields = node.model_dump(mode="json", exclude={"id"})
    return {**fields, "deps": sorted(fields["deps"])}


def _changes(before: PlanNode, after: PlanNode) -> dict[str, FieldChange]:
    old, new = _fields(before), _fields(after)
    return {name: FieldChange(previous=old[name], current=new[name]) for name in old if old[name] != new[name]}


def _edges(graph: PlanGraph, *, but_not: PlanGraph) -> list[dict[str, str]]:
    elsewhere = set(_pairs(but_not))
    return [{"source": s, "target": t} for s, t in sorted(_pairs(graph)) if (s, t) not in elsewhere]


def _pairs(graph: PlanGraph) -> set[tuple[str, str]]:
    return {(dep, node.id) for node in graph.plan for dep in node.deps}
