"""Orders as they wait for a run's owner in the table `signals`, and the facts they become in its hands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contracts.executor import ControlMode, RunAction
from contracts.run_control import NodeAction
from services.executor.domain.facts import Asked, Steered

KIND: Mapping[NodeAction, str] = {action: f"node_{action}" for action in NodeAction}
NODE_ACTION: Mapping[str, NodeAction] = {kind: action for action, kind in KIND.items()}


def written(order: Asked | Steered) -> tuple[str, dict[str, Any]]:
    """Kind and payload."""
    if isinstance(order, Asked):
        return order.action, {"mode": order.mode}
    about = {"key": order.key, "mode": order.mode, "by": order.by}
    return KIND[order.action], about | {"prompt": order.prompt, "params": order.params}


def read(kind: str, payload: Mapping[str, Any]) -> Asked | Steered:
    mode = ControlMode(payload.get("mode", ControlMode.FINISH))
    if (action := NODE_ACTION.get(kind)) is None:
        return Asked(RunAction(kind), mode)
    return Steered(payload["key"], action, mode, payload.get("prompt"), payload.get("params"), payload.get("by"))
