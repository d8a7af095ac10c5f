"""What does an order make of a run? It was legal when it was given; what came in between may have left nothing to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import assert_never

from contracts.executor import ControlMode, NodeStatus, RunAction, RunStatus
from contracts.review import Guidance
from contracts.run_control import NodeAction
from contracts.run_facts import NodeControlLapsed, NodeOverridden, NodeResumed, RunControlLapsed
from services.executor.domain import node_moves, results, run_moves
from services.executor.domain.budget import BUDGET
from services.executor.domain.control import REOPENING
from services.executor.domain.draft import Draft
from services.executor.domain.facts import Asked, Rerun, Steered
from services.executor.domain.run import Guided, Node, Overridden, has_result
from services.executor.domain.run_moves import CONTROL
from services.executor.domain.status import RUN_FINAL

SKIPPABLE = frozenset({NodeStatus.QUEUED, NodeStatus.PAUSED, NodeStatus.FAILED, NodeStatus.RUNNING})
ENDED = frozenset({NodeStatus.COMPLETED, NodeStatus.FAILED})
PAUSABLE = frozenset({NodeStatus.QUEUED, NodeStatus.RUNNING, NodeStatus.PAUSED})
#: in which states something comes of an order when its turn has come
MAY_STILL: Mapping[NodeAction, frozenset[NodeStatus]] = {
    NodeAction.PAUSE: PAUSABLE,
    NodeAction.RESUME: PAUSABLE,
    NodeAction.SKIP: SKIPPABLE,
    NodeAction.OVERRIDE: SKIPPABLE | ENDED | {NodeStatus.REVIEWING},
}
#: in which states nothing comes of an order to the run any more
TOO_LATE: Mapping[RunAction, frozenset[RunStatus]] = {
    RunAction.PAUSE: RUN_FINAL,
    RunAction.RESUME: RUN_FINAL,
    RunAction.CANCEL: RUN_FINAL,
    RunAction.SKIP_FAILED_AND_RESUME: frozenset({RunStatus.COMPLETED, RunStatus.CANCELED}),
}


def obey(draft: Draft, order: Asked) -> None:
    status = draft.run.status
    if status in TOO_LATE[order.action]:
        if not (order.action is RunAction.CANCEL and status is RunStatus.CANCELED):
            reason = f"the run is {status} by now"
            draft.tell_run(RunControlLapsed, action=order.action, status=status, reason=reason, by=order.by)
        return
    match order.action:
        case RunAction.PAUSE:
            _pause_run(draft, order.mode)
        case RunAction.RESUME:
            run_moves.want_no_pause(draft)
        case RunAction.CANCEL:
            run_moves.cancel(draft)
        case RunAction.SKIP_FAILED_AND_RESUME:
            _skip_failed(draft, order.by)
        case _:
            assert_never(order.action)


def steer(draft: Draft, order: Steered) -> None:
    node = draft.nodes[order.key]
    if (reason := _too_late(draft.run.status, node, order.action)) is not None:
        about = {"action": order.action, "status": node.status, "reason": reason, "by": order.by}
        draft.tell_node(NodeControlLapsed, node, node.attempt, **about)
        return
    match order.action:
        case NodeAction.PAUSE:
            _pause_node(draft, node, order)
        case NodeAction.RESUME:
            _clear(draft, node, CONTROL, order.by)
        case NodeAction.SKIP:
            node_moves.skip(draft, node, order.by)
            run_moves.reopen(draft)
        case NodeAction.OVERRIDE:
            _override(draft, node, order)
        case _:
            assert_never(order.action)


def _too_late(run: RunStatus, node: Node, action: NodeAction) -> str | None:
    """Why nothing can come of the order any more."""
    if run is RunStatus.CANCELED or (run in RUN_FINAL and action not in REOPENING):
        return f"the run is {run} by now"
    if node.status not in MAY_STILL[action]:
        return f"the node is {node.status} by now"
    if action is NodeAction.RESUME and CONTROL not in node.pause_reasons:
        return "nobody's pause holds the node any more"
    return None


def _pause_run(draft: Draft, mode: ControlMode) -> None:
    run_moves.want_pause(draft)
    if mode is ControlMode.INTERRUPT:
        for key in draft.running_in_order():
            node_moves.cut_off(draft, draft.nodes[key], "the run was paused")


def _skip_failed(draft: Draft, by: str | None) -> None:
    for node in list(draft.nodes.values()):
        if node.status is NodeStatus.FAILED:
            node_moves.skip(draft, node, by)
    run_moves.want_no_pause(draft)
    run_moves.reopen(draft)


def _pause_node(draft: Draft, node: Node, order: Steered) -> None:
    wanted = node._replace(pause_reasons=node.pause_reasons | {CONTROL})
    if node.status is NodeStatus.QUEUED:
        node_moves.pause(draft, wanted, order.by)
    elif node.status is NodeStatus.RUNNING and order.mode is ControlMode.INTERRUPT:
        node_moves.cut_off(draft, wanted, "the node was paused", order.by)
    elif wanted != node:
        draft.change(node, pause_reasons=wanted.pause_reasons)


def fund(draft: Draft, keys: Iterable[str]) -> None:
    """There is room for their calls. Whatever else has moved one of them on meanwhile has ended its wait."""
    for node in [draft.nodes[key] for key in keys]:
        if BUDGET in node.pause_reasons:
            _clear(draft, node, BUDGET)


def _clear(draft: Draft, node: Node, reason: str, by: str | None = None) -> None:
    node = draft.change(node, pause_reasons=node.pause_reasons - {reason})
    if node.status is not NodeStatus.PAUSED or node.pause_reasons:
        return
    draft.tell_node(NodeResumed, node, node.attempt, by=by)
    if has_result(node):
        results.accept(draft, node)
    else:
        draft.move(node, NodeStatus.QUEUED)
        if node.blocked == 0:
            draft.ready.append(node.plan.key)


def _override(draft: Draft, node: Node, order: Steered) -> None:
    draft.overridden.append(Overridden(node.plan, order.prompt, order.params))
    fields = [name for name, given in (("prompt", order.prompt), ("params", order.params)) if given is not None]
    draft.tell_node(NodeOverridden, node, node.attempt, fields=fields, by=order.by)
    _start_over(draft, node, "it was overridden")
    node_moves.make_stale(draft, node.plan.key)
    run_moves.reopen(draft)


def run_again(draft: Draft, order: Rerun) -> None:
    """With the critique of the verdict in force, and with what the person has to say."""
    node, run = draft.nodes[order.key], draft.run.status
    if run is RunStatus.CANCELED or node.status in (NodeStatus.SKIPPED, NodeStatus.CANCELED):
        reason = f"the run is {run} by now" if run is RunStatus.CANCELED else f"the node is {node.status} by now"
        about = {"action": "rerun", "status": node.status, "reason": reason, "by": order.by}
        draft.tell_node(NodeControlLapsed, node, node.attempt, **about)
        return
    if fields := order.replaces():
        draft.overridden.append(Overridden(node.plan, order.prompt, None, order.llm_backend, order.llm_model))
        draft.tell_node(NodeOverridden, node, node.attempt, fields=fields, by=order.by)
    critique = order.critique if order.of_attempt == node.attempt else None
    told = {"critique": critique, "instructions": order.instructions}
    guidance = Guidance(**told, of_attempt=node.attempt, by=order.by)
    draft.guided.append(Guided(node.plan, node.attempt + 1, guidance, on_top=False))
    _start_over(draft, node, "a person asked for another attempt")
    if order.keep_descendants:
        draft.recount()
    else:
        node_moves.make_stale(draft, node.plan.key)
    run_moves.reopen(draft)


def _start_over(draft: Draft, node: Node, reason: str) -> None:
    if node.status in ENDED or has_result(node):
        node_moves.run_again(draft, node, reason)
    elif node.status is NodeStatus.RUNNING:
        node_moves.cut_off(draft, node, reason, **node_moves.ANEW)
    else:
        draft.change(node, **node_moves.ANEW)
