"""What does an order make of a run? It was legal when it was given; what came in between may have left nothing to do."""

from __future__ import annotations

from typing import assert_never

from contracts.executor import ControlMode, NodeStatus, RunAction, RunStatus
from contracts.run_control import NodeAction
from contracts.run_facts import NodeOverridden, NodeResumed
from services.executor.domain import node_moves, run_moves
from services.executor.domain.draft import Draft
from services.executor.domain.facts import Asked, Steered
from services.executor.domain.run import Node, Overridden
from services.executor.domain.run_moves import CONTROL
from services.executor.domain.status import RUN_FINAL

SKIPPABLE = frozenset({NodeStatus.QUEUED, NodeStatus.PAUSED, NodeStatus.FAILED, NodeStatus.RUNNING})
ENDED = frozenset({NodeStatus.COMPLETED, NodeStatus.FAILED})


def obey(draft: Draft, order: Asked) -> None:
    status = draft.run.status
    match order.action:
        case RunAction.PAUSE if status not in RUN_FINAL:
            _pause_run(draft, order.mode)
        case RunAction.RESUME if status not in RUN_FINAL:
            run_moves.want_no_pause(draft)
        case RunAction.CANCEL if status not in RUN_FINAL:
            run_moves.cancel(draft)
        case RunAction.SKIP_FAILED_AND_RESUME if status not in (RunStatus.COMPLETED, RunStatus.CANCELED):
            _skip_failed(draft)
        case RunAction.PAUSE | RunAction.RESUME | RunAction.CANCEL | RunAction.SKIP_FAILED_AND_RESUME:
            pass
        case _:
            assert_never(order.action)


def steer(draft: Draft, order: Steered) -> None:
    if draft.run.status is RunStatus.CANCELED:
        return
    node = draft.nodes[order.key]
    match order.action:
        case NodeAction.PAUSE:
            _pause_node(draft, node, order.mode)
        case NodeAction.RESUME:
            _resume_node(draft, node)
        case NodeAction.SKIP if node.status in SKIPPABLE:
            node_moves.skip(draft, node)
            run_moves.reopen(draft)
        case NodeAction.OVERRIDE if node.status in SKIPPABLE | ENDED:
            _override(draft, node, order)
        case NodeAction.SKIP | NodeAction.OVERRIDE:
            pass
        case _:
            assert_never(order.action)


def _pause_run(draft: Draft, mode: ControlMode) -> None:
    run_moves.want_pause(draft)
    if mode is ControlMode.INTERRUPT:
        for key in draft.running_in_order():
            node_moves.cut_off(draft, draft.nodes[key], "the run was paused")


def _skip_failed(draft: Draft) -> None:
    for node in list(draft.nodes.values()):
        if node.status is NodeStatus.FAILED:
            node_moves.skip(draft, node)
    run_moves.want_no_pause(draft)
    run_moves.reopen(draft)


def _pause_node(draft: Draft, node: Node, mode: ControlMode) -> None:
    if draft.run.status in RUN_FINAL or node.status not in (NodeStatus.QUEUED, NodeStatus.RUNNING):
        return
    wanted = node._replace(pause_reasons=node.pause_reasons | {CONTROL})
    if node.status is NodeStatus.QUEUED:
        node_moves.pause(draft, wanted)
    elif mode is ControlMode.INTERRUPT:
        node_moves.cut_off(draft, wanted, "the node was paused")
    elif wanted != node:
        draft.change(node, pause_reasons=wanted.pause_reasons)


def _resume_node(draft: Draft, node: Node) -> None:
    if CONTROL not in node.pause_reasons:
        return
    node = draft.change(node, pause_reasons=node.pause_reasons - {CONTROL})
    if node.status is NodeStatus.PAUSED and not node.pause_reasons:
        draft.move(node, NodeStatus.QUEUED)
        if node.blocked == 0:
            draft.ready.append(node.plan.key)
        draft.tell_node(NodeResumed, node, node.attempt)


def _override(draft: Draft, node: Node, order: Steered) -> None:
    draft.overridden.append(Overridden(node.plan, order.prompt, order.params))
    fields = [name for name, given in (("prompt", order.prompt), ("params", order.params)) if given is not None]
    draft.tell_node(NodeOverridden, node, node.attempt, fields=fields, by=order.by)
    if node.status in ENDED:
        node_moves.run_again(draft, node, "it was overridden")
    elif node.status is NodeStatus.RUNNING:
        node_moves.cut_off(draft, node, "it was overridden", **node_moves.ANEW)
    else:
        draft.change(node, **node_moves.ANEW)
    node_moves.make_stale(draft, node.plan.key)
    run_moves.reopen(draft)
