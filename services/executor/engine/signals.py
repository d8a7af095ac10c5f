"""Orders as they wait for a run's owner in the table `signals`, and the facts they become in its hands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from contracts.executor import ControlMode, RunAction
from contracts.run_control import NodeAction
from contracts.verdict import Verdict
from services.executor.domain.control import REOPENING as REOPENING_ACTIONS
from services.executor.domain.facts import Asked, Funded, Judged, Rerun, Steered

KIND: Mapping[NodeAction, str] = {action: f"node_{action}" for action in NodeAction}
NODE_ACTION: Mapping[str, NodeAction] = {kind: action for action, kind in KIND.items()}
#: left by nobody: a budget has room again for nodes that wait for it
FUNDED = "nodes_funded"
RERUN = "node_rerun"
DEAD_ORDERS = "executor-orders"  # as which their dead letters are known
VERDICT = "verdict"
BY_NOBODY = (FUNDED, VERDICT)
#: a run that has ended goes on by these
REOPENING: tuple[str, ...] = (RunAction.SKIP_FAILED_AND_RESUME, *(KIND[action] for action in REOPENING_ACTIONS), RERUN)


def written(order: Asked | Steered | Rerun | Judged | Funded) -> tuple[str, dict[str, Any]]:
    """Kind and payload."""
    if isinstance(order, Funded):
        return FUNDED, {"keys": list(order.keys)}
    if isinstance(order, Judged):
        return VERDICT, {"key": order.key, "verdict": order.verdict.model_dump(mode="json")}
    if isinstance(order, Rerun):
        return RERUN, {name: value for name, value in asdict(order).items() if value is not None}
    if isinstance(order, Asked):
        return order.action, {"mode": order.mode, "by": order.by}
    about = {"key": order.key, "mode": order.mode, "by": order.by}
    return KIND[order.action], about | {"prompt": order.prompt, "params": order.params}


def read(kind: str, payload: Mapping[str, Any]) -> Asked | Steered | Rerun | Judged | Funded:
    if kind == FUNDED:
        return Funded(tuple(payload["keys"]))
    if kind == VERDICT:
        return Judged(payload["key"], Verdict.model_validate(payload["verdict"]))
    if kind == RERUN:
        return Rerun(**payload)
    mode = ControlMode(payload.get("mode", ControlMode.FINISH))
    if (action := NODE_ACTION.get(kind)) is None:
        return Asked(RunAction(kind), mode, payload.get("by"))
    return Steered(payload["key"], action, mode, payload.get("prompt"), payload.get("params"), payload.get("by"))
