"""Which nodes of a run are in trouble, and what else about it should somebody know who has to mend it?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pydantic import Field

from contracts.executor import Node, NodeStatus, Run, RunStatus, Usage
from contracts.refs import Value
from contracts.run_control import Waiting, WaitReason
from contracts.verdict import Effect

#: levels of the timeline that tell of trouble, in words for people
TROUBLE: Mapping[str, str] = {
    "RUN_STALLED": "nothing happened for longer than it should",
    "RUN_REPAIRED": "the reconciler mended something",
    "RUN_REOPENED": "the run had ended and went on",
    "NODE_FAILED": "a node failed",
    "NODE_RETRIED": "an attempt failed or was lost, and was made again",
    "NODE_INTERRUPTED": "an attempt was cut off by order",
    "NODE_PARKED": "a provider was not to be had",
    "NODE_REVIEW_OVERDUE": "no verdict came in time",
    "NODE_VERDICT_LAPSED": "a verdict came too late to change anything",
    "NODE_CONTROL_LAPSED": "an order came too late to change anything",
    "FEEDBACK_CRITICAL": "a result was found wanting",
    "BUDGET_EXHAUSTED": "a budget was used up",
}
#: of what waits: what is only a consequence, or no trouble at all
ORDINARY = frozenset(
    {WaitReason.DEPENDENCY, WaitReason.RUNNING, WaitReason.SLOT, WaitReason.EXECUTOR, WaitReason.ORDER}
)


class Signal(Value):
    """`kind` is the level of facts, which `count` says how often there were, or what waits for something."""

    kind: str
    detail: str
    count: int = 1
    nodes: list[str] = Field(default_factory=list)  # their keys
    release: str | None = None  # what would end it


def is_held(node: Node) -> bool:
    """Its result waits for a person's word."""
    verdict = node.verdict
    in_force = verdict is not None and verdict.attempt == node.attempt and verdict.effect is Effect.HOLD
    return in_force or (node.status is NodeStatus.PAUSED and "verdict" in node.pause_reasons)


def in_trouble(nodes: Iterable[Node]) -> list[Node]:
    return [node for node in nodes if node.status is NodeStatus.FAILED or is_held(node)]


def signals(run: Run, nodes: Sequence[Node], waiting: Iterable[Waiting], told: Mapping[str, int]) -> list[Signal]:
    """`told` counts the run's facts by level."""
    found = [*_of_the_run(run), *_of_nodes(nodes)]
    found += [_of_waiting(item) for item in waiting if _is_trouble(item, nodes)]
    return found + [
        Signal(kind=level, detail=TROUBLE[level], count=told[level]) for level in TROUBLE if told.get(level)
    ]


def is_unpriced(usage: Usage) -> bool:
    return usage.unpriced_calls > 0 or usage.cost_usd is None


def _is_trouble(item: Waiting, nodes: Sequence[Node]) -> bool:
    """A verdict is waited for by whoever is held; of a result that is just being reviewed nothing is wrong."""
    if item.reason is WaitReason.VERDICT:
        return any(node.key == item.key and is_held(node) for node in nodes)
    return item.reason not in ORDINARY


def _of_the_run(run: Run) -> Iterable[Signal]:
    if run.status is RunStatus.FAILED:
        yield Signal(
            kind="failed", detail=run.error or "the run failed", release="skip or override what failed, or retry"
        )
    if run.needs_attention:
        yield Signal(kind="needs_attention", detail="a critical verdict waits for a person", release="see GET /reviews")
    if run.control is not None and run.control.effective_at is None:
        detail = f"{run.control.wanted} was asked and is not in effect; {run.control.finishing} nodes are finishing"
        yield Signal(kind="control", detail=detail)


def _of_nodes(nodes: Sequence[Node]) -> Iterable[Signal]:
    for kind, detail, keys in (
        ("failed_nodes", "failed", [node.key for node in nodes if node.status is NodeStatus.FAILED]),
        ("held_nodes", "held by a verdict", [node.key for node in nodes if is_held(node)]),
        ("unknown_cost", "their price is not known", [node.key for node in nodes if is_unpriced(node.usage)]),
    ):
        if keys:
            yield Signal(kind=kind, detail=detail, count=len(keys), nodes=keys)


def _of_waiting(item: Waiting) -> Signal:
    keys = [item.key] if item.key else []
    return Signal(kind=f"waits_for_{item.reason}", detail=item.detail, nodes=keys, release=item.release)
