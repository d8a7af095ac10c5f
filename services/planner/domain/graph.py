"""Is this plan graph sound, and in which order can its nodes run?"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush

from contracts.errors import Code, Rejection
from contracts.plan import MAX_NODES, ArtifactKind, Deliverable, Edge, NodeKind, PlanGraph

Deps = Mapping[str, Sequence[str]]

SHOWN_IN_A_CYCLE = 20
SHOWN_VIOLATIONS = 1000  # an answer has a limit; no plan of a legal size comes near it
PAGE = re.compile(r"\.html?$", re.IGNORECASE)


def completed(graph: PlanGraph) -> PlanGraph:
    """The graph with `deps` and `edges` saying the same: what either of them says counts. Unknown ends are left out."""
    known = {node.id for node in graph.plan}
    given: dict[str, list[str]] = {key: [] for key in known}
    for edge in graph.edges:
        if edge.source in known and edge.target in known:
            given[edge.target].append(edge.source)
    nodes = [n.model_copy(update={"deps": list(dict.fromkeys([*n.deps, *given[n.id]]))}) for n in graph.plan]
    edges = [Edge(source=dep, target=node.id) for node in nodes for dep in node.deps if dep in known]
    return graph.model_copy(update={"plan": nodes, "edges": edges})


def violations(graph: PlanGraph) -> list[str]:
    """Every rule the graph breaks, each naming the nodes concerned; an empty list means it is sound."""
    known = {node.id for node in graph.plan}
    whole = completed(graph)
    deps = _deps(whole, known)
    return [
        *_size(len(graph.plan)),
        *(f"node id {key!r} is used {n} times" for key, n in Counter(n.id for n in graph.plan).items() if n > 1),
        *(f"node {key!r} depends on itself" for key in dict.fromkeys(n.id for n in whole.plan if n.id in n.deps)),
        *_unknown_deps(graph, known),
        *_unknown_ends(graph, known),
        *_undeliverable(graph),
        *(f"the dependencies form a cycle: {_named(circle)}" for circle in _circles(deps)),
    ]


def sound(graph: PlanGraph) -> PlanGraph:
    """The completed graph. Raises Rejection naming everything that is wrong with it."""
    if broken := violations(graph):
        more = len(broken) - SHOWN_VIOLATIONS
        shown = [*broken[:SHOWN_VIOLATIONS], f"and {more} more"] if more > 0 else broken
        raise Rejection(Code.INVALID, f"the plan is not sound: {'; '.join(broken[:3])}", errors=shown)
    return completed(graph)


def order(graph: PlanGraph) -> list[str]:
    """The ids of a sound graph, each after its dependencies, otherwise as the plan lists them."""
    deps = _deps(completed(graph), {node.id for node in graph.plan})
    place = {key: index for index, key in enumerate(deps)}
    waits = {key: len(needed) for key, needed in deps.items()}
    users = _users(deps)
    free = [(place[key], key) for key, count in waits.items() if count == 0]
    heapify(free)
    ordered: list[str] = []
    while free:
        _, key = heappop(free)
        ordered.append(key)
        for user in users[key]:
            waits[user] -= 1
            if waits[user] == 0:
                heappush(free, (place[user], user))
    return ordered


def _size(count: int) -> Iterator[str]:
    if not 1 <= count <= MAX_NODES:
        yield f"the plan has {count} nodes; it must have 1 to {MAX_NODES}"


def _unknown_deps(graph: PlanGraph, known: set[str]) -> Iterator[str]:
    for node in graph.plan:
        for dep in dict.fromkeys(node.deps):
            if dep not in known:
                yield f"node {node.id!r} depends on {dep!r}, which is not in the plan"


def _unknown_ends(graph: PlanGraph, known: set[str]) -> Iterator[str]:
    for edge in graph.edges:
        for end in dict.fromkeys((edge.source, edge.target)):
            if end not in known:
                yield f"edge {edge.source!r} → {edge.target!r}: {end!r} is not in the plan"


def _undeliverable(graph: PlanGraph) -> Iterator[str]:
    """What a node would owe in vain: no work of its agent could be accepted."""
    for node in graph.plan:
        if node.deliverables and node.kind is NodeKind.NOOP:
            yield f"node {node.id!r} is a noop, which delivers nothing; leave its `deliverables` out"
        yield from (f"node {node.id!r} owes {flaw}" for item in node.deliverables if (flaw := _flaw(item)))


def _flaw(item: Deliverable) -> str | None:
    if item.path is None:
        return None
    if item.kind is ArtifactKind.LINK:
        return f"a link with the path {item.path!r}; a link has an address, and no path"
    if item.kind is ArtifactKind.PREVIEW and not PAGE.search(item.path):
        return f"a preview that opens with {item.path!r}; name a page that ends with .html"
    return None


def _deps(graph: PlanGraph, known: set[str]) -> dict[str, list[str]]:
    """Dependencies by id, without what is reported on its own: unknown ones and those on itself."""
    deps: dict[str, dict[str, None]] = {node.id: {} for node in graph.plan}
    for node in graph.plan:
        deps[node.id].update(dict.fromkeys(d for d in node.deps if d in known and d != node.id))
    return {key: list(needed) for key, needed in deps.items()}


def _users(deps: Deps) -> dict[str, list[str]]:
    users: dict[str, list[str]] = {key: [] for key in deps}
    for key, needed in deps.items():
        for dep in needed:
            users[dep].append(key)
    return users


def _finish_order(deps: Deps) -> list[str]:
    """Nodes in the order a depth-first walk leaves them. Iterative: a long chain must not exhaust the stack."""
    seen: set[str] = set()
    finished: list[str] = []
    for root in deps:
        path = [] if root in seen else [(root, iter(deps[root]))]
        seen.add(root)
        while path:
            key, rest = path[-1]
            step = next((dep for dep in rest if dep not in seen), None)
            if step is None:
                finished.append(key)
                path.pop()
            else:
                seen.add(step)
                path.append((step, iter(deps[step])))
    return finished


def _knots(deps: Deps) -> Iterator[set[str]]:
    """Sets of nodes that all depend on each other (Kosaraju: strongly connected, larger than one), in linear time."""
    users, left = _users(deps), set(deps)
    for root in reversed(_finish_order(deps)):
        knot: set[str] = set()
        reached = [root]
        while reached:
            key = reached.pop()
            if key in left:
                left.discard(key)
                knot.add(key)
                reached.extend(users[key])
        if len(knot) > 1:
            yield knot


def _circles(deps: Deps) -> list[list[str]]:
    """One cycle of each knot, in the direction of the work, starting at its node that the plan lists first."""
    place = {key: index for index, key in enumerate(deps)}
    circles = [_circle(deps, knot, min(knot, key=place.__getitem__)) for knot in _knots(deps)]
    turned = [circle[i:] + circle[:i] for circle in circles for i in [circle.index(min(circle, key=place.__getitem__))]]
    return sorted(turned, key=lambda circle: place[circle[0]])


def _circle(deps: Deps, knot: set[str], start: str) -> list[str]:
    walk = {start: 0}
    key = start
    while True:
        key = next(dep for dep in deps[key] if dep in knot)
        if key in walk:
            return list(walk)[walk[key] :][::-1]
        walk[key] = len(walk)


def _named(circle: list[str]) -> str:
    shown = circle if len(circle) <= SHOWN_IN_A_CYCLE else [*circle[: SHOWN_IN_A_CYCLE - 1], "…", circle[-1]]
    return " → ".join([*shown, circle[0]])
