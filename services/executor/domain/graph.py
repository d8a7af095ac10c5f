"""What depends on what? The fixed shape of a run's plan, and whether it can be walked at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from contracts.errors import Code, Rejection
from contracts.plan import Gate


@dataclass(frozen=True, slots=True)
class Plan:
    """What is fixed about a node when its run starts."""

    id: UUID
    key: str
    title: str
    role: str | None
    deps: tuple[str, ...]
    max_attempts: int
    agent_id: str | None = None
    gate: Gate = Gate.OFF  # what a review of its result may do; off for what nobody works on


@dataclass(frozen=True, slots=True)
class Graph:
    """Plans by key, in plan order, and who waits for each."""

    plans: Mapping[str, Plan]
    successors: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, plans: Sequence[Plan]) -> Graph:
        successors: dict[str, list[str]] = {plan.key: [] for plan in plans}
        for plan in plans:
            for dep in plan.deps:
                successors[dep].append(plan.key)
        return cls({plan.key: plan for plan in plans}, {key: tuple(after) for key, after in successors.items()})


def check(deps: Sequence[tuple[str, Sequence[str]]]) -> None:
    """Raises Rejection(invalid) with every violation when (key, deps) pairs make no graph that can be walked."""
    keys = [key for key, _ in deps]
    known = set(keys)
    problems = [f"the node id {key!r} is used twice" for key in sorted(k for k in known if keys.count(k) > 1)]
    for key, wanted in deps:
        problems += [f"{key} depends on {dep!r}, which is not in the plan" for dep in wanted if dep not in known]
        problems += [f"{key} names the same dependency twice"] if len(set(wanted)) != len(wanted) else []
    if not problems and (stuck := _on_a_cycle(deps)):
        problems = [f"these nodes wait for each other: {', '.join(stuck)}"]
    if problems:
        raise Rejection(Code.INVALID, "; ".join(problems[:5]), errors=[{"loc": ["nodes"], "msg": p} for p in problems])


def _on_a_cycle(deps: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """What is left when everything that can be walked has been walked."""
    waiting = {key: set(wanted) for key, wanted in deps}
    while free := [key for key, wanted in waiting.items() if not wanted]:
        for key in free:
            del waiting[key]
        for wanted in waiting.values():
            wanted.difference_update(free)
    return sorted(waiting)
