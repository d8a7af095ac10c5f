"""Which results of an earlier run of the same task are still good? Those whose inputs did not change, all the way up."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from uuid import UUID

#: what reaches the prompt or chooses who answers it; limits, fallbacks and the node's place in the list do not
INPUTS = (
    "title",
    "kind",
    "instructions",
    "notes",
    "acceptance",
    "deliverables",
    "risks",
    "assumptions",
    "role",
    "agent_id",
    "llm_backend",
    "llm_model",
    "params",
)

Spec = Mapping[str, Any]  # contracts.executor.RunNode as JSON


class Earlier(NamedTuple):
    """A node of the earlier run. One whose result a verdict holds is not completed, whatever its run has become."""

    id: UUID
    completed: bool
    checksum: str | None
    spec: Spec


def fingerprint(task: str, spec: Spec) -> str:
    """The same for two nodes that are told the same, given the same results of those before them."""
    given = {name: spec.get(name) or None for name in INPUTS} | {"task": task, "deps": sorted(spec.get("deps") or ())}
    return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()


def reusable(task: str, specs: Iterable[Spec], earlier_task: str, earlier: Iterable[Earlier]) -> dict[str, Earlier]:
    """By key. The plan must be one that can be walked."""
    done = {node.spec["key"]: node for node in earlier if node.completed}
    plan = {spec["key"]: spec for spec in specs}
    same = {
        key: done[key]
        for key, spec in plan.items()
        if key in done and fingerprint(task, spec) == fingerprint(earlier_task, done[key].spec)
    }
    while changed := [key for key in same if not same.keys() >= set(plan[key].get("deps") or ())]:
        for key in changed:
            del same[key]
    return same
