"""Random plan graphs for Hypothesis: sound ones, and what breaks them."""

from __future__ import annotations

from hypothesis import strategies as st

from contracts.plan import PlanGraph

TITLES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Z"]), min_size=1, max_size=12)


@st.composite
def sound_graphs(draw: st.DrawFn, max_nodes: int = 20) -> PlanGraph:
    """Dependencies point to nodes earlier in a random order, so there is no cycle; some are said as edges only."""
    count = draw(st.integers(1, max_nodes))
    keys = [f"n{i}" for i in range(count)]
    nodes, edges = [], []
    for index, key in enumerate(keys):
        needed = draw(st.lists(st.sampled_from(keys[:index]), unique=True, max_size=4)) if index else []
        as_edges = draw(st.lists(st.sampled_from(needed), unique=True)) if needed else []
        nodes.append({"id": key, "title": draw(TITLES), "deps": [d for d in needed if d not in as_edges]})
        edges += [{"source": dep, "target": key} for dep in as_edges]
    return PlanGraph.model_validate({"plan": draw(st.permutations(nodes)), "edges": edges})


def needs(graph: PlanGraph) -> dict[str, set[str]]:
    """Who needs whom, read naively: from both `deps` and `edges`."""
    found = {node.id: set(node.deps) for node in graph.plan}
    for edge in graph.edges:
        found[edge.target].add(edge.source)
    return found


def chain(*keys: str) -> PlanGraph:
    """Each node needs the one before it."""
    pairs = zip(keys, (None, *keys), strict=False)
    return PlanGraph.model_validate([{"id": k, "title": k, "deps": [before] if before else []} for k, before in pairs])
