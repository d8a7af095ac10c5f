"""May this order be given to a run or node in this state, and what does it make people want? Refusals name what may."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from typing import Literal, NamedTuple

from contracts.errors import Code, Rejection
from contracts.executor import ControlMode, NodeStatus, RunAction, RunStatus, Wanted
from contracts.run_control import NodeAction
from services.executor.domain.run import VERDICT
from services.executor.domain.run_moves import CONTROL
from services.executor.domain.status import RUN_FINAL

#: in which states an order makes sense; repeating one that took effect is no mistake
LEGAL: Mapping[RunAction, frozenset[RunStatus]] = {
    RunAction.PAUSE: frozenset({RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.PAUSED}),
    RunAction.RESUME: frozenset({RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.PAUSED}),
    RunAction.CANCEL: frozenset({RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.PAUSED, RunStatus.CANCELED}),
    RunAction.SKIP_FAILED_AND_RESUME: frozenset({RunStatus.RUNNING, RunStatus.PAUSED, RunStatus.FAILED}),
}

NODE_LEGAL_ORDERS: Mapping[NodeAction, frozenset[NodeStatus]] = {
    NodeAction.PAUSE: frozenset({NodeStatus.QUEUED, NodeStatus.RUNNING, NodeStatus.PAUSED}),
    NodeAction.RESUME: frozenset({NodeStatus.QUEUED, NodeStatus.RUNNING, NodeStatus.PAUSED}),
    NodeAction.SKIP: frozenset(
        {NodeStatus.QUEUED, NodeStatus.RUNNING, NodeStatus.PAUSED, NodeStatus.FAILED, NodeStatus.SKIPPED}
    ),
    NodeAction.OVERRIDE: frozenset(NodeStatus) - {NodeStatus.SKIPPED, NodeStatus.CANCELED},
}
#: what has a result, or had an attempt that ended without one
RERUNNABLE = frozenset({NodeStatus.REVIEWING, NodeStatus.PAUSED, NodeStatus.COMPLETED, NodeStatus.FAILED})
WAYS_OUT = (
    "a verdict holds it: give one (POST /feedbacks with a score), run it again (POST /nodes/{id}/rerun) or skip it"
)
#: what may be done to a node of a run that has ended; it reopens the run
REOPENING = frozenset({NodeAction.SKIP, NodeAction.OVERRIDE})

ASKED_FOR: Mapping[RunAction, RunStatus] = {
    RunAction.PAUSE: RunStatus.PAUSED,
    RunAction.RESUME: RunStatus.RUNNING,
    RunAction.CANCEL: RunStatus.CANCELED,
    RunAction.SKIP_FAILED_AND_RESUME: RunStatus.RUNNING,
}


WANTS: Mapping[RunAction, Wanted] = {
    RunAction.PAUSE: Wanted.PAUSE,
    RunAction.RESUME: Wanted.RUN,
    RunAction.CANCEL: Wanted.CANCEL,
    RunAction.SKIP_FAILED_AND_RESUME: Wanted.RUN,
}


class Standing(NamedTuple):
    """A run as an order meets it. `waiting` are the orders to it that its owner has not seen yet."""

    status: RunStatus
    wanted: Wanted = Wanted.RUN
    mode: ControlMode = ControlMode.FINISH
    effective: bool = True  # what is wanted is so
    reopening: bool = False  # it had ended, and an order that makes it go on waits for its owner
    failed_nodes: int = 0
    waiting: frozenset[RunAction] = frozenset()

    @property
    def state(self) -> RunStatus:
        """What it is, or will be as soon as its owner looks."""
        return RunStatus.RUNNING if self.reopening else self.status


class NodeStanding(NamedTuple):
    """A node as an order meets it, what was ordered before and is still waiting included."""

    status: NodeStatus
    pause_reasons: frozenset[str] = frozenset()
    has_result: bool = False

    def ordered(self, orders: Iterable[NodeAction | Literal["rerun"]]) -> NodeStanding:
        """As it will be when these orders are carried out."""
        found = self
        for order in orders:
            if not isinstance(order, NodeAction):
                found = found.run_again() if found.status in RERUNNABLE else found
            elif found.status in NODE_LEGAL_ORDERS[order]:
                found = found._after(order)
        return found

    def run_again(self) -> NodeStanding:
        left = self.pause_reasons - {VERDICT}
        return NodeStanding(NodeStatus.PAUSED if left else NodeStatus.QUEUED, left)

    def _after(self, action: NodeAction) -> NodeStanding:
        match action:
            case NodeAction.PAUSE:
                paused = NodeStatus.RUNNING if self.status is NodeStatus.RUNNING else NodeStatus.PAUSED
                return NodeStanding(paused, self.pause_reasons | {CONTROL}, self.has_result)
            case NodeAction.RESUME:
                left = self.pause_reasons - {CONTROL}
                stays = left or self.status is NodeStatus.RUNNING
                goes_on = NodeStatus.COMPLETED if self.has_result else NodeStatus.QUEUED
                return NodeStanding(self.status if stays else goes_on, left, self.has_result)
            case NodeAction.SKIP:
                return NodeStanding(NodeStatus.SKIPPED)
            case NodeAction.OVERRIDE:
                return self.run_again()


def judge(action: RunAction, mode: ControlMode, run: Standing) -> bool:
    """Whether the run's owner must be told; False when the order has long been given. Raises Rejection."""
    if not _is_legal(action, run):
        may = useful_actions(run)
        if action is RunAction.SKIP_FAILED_AND_RESUME and _is_possible(action, run):
            raise Rejection(Code.NOTHING_TO_SKIP, "no node of this run has failed", state=run.status, legal=may)
        raise _refused(f"the run is {_in_words(run)}", action, may, run.status)
    if action is RunAction.SKIP_FAILED_AND_RESUME:
        return action not in run.waiting
    if action is RunAction.PAUSE and run.wanted is Wanted.PAUSE:
        return mode is ControlMode.INTERRUPT and run.mode is ControlMode.FINISH and not run.effective
    return run.wanted is not WANTS[action]


def judge_node(action: NodeAction, mode: ControlMode, run: Standing, node: NodeStanding) -> bool:
    """The same for a node's order."""
    may = legal_node_actions(run, node)
    if action not in may:
        where = f"the node is {node.status} and its run {_in_words(run)}"
        if action is NodeAction.RESUME and _only_a_verdict_holds(node):
            where = f"{where}; {WAYS_OUT}"
        raise _refused(where, action, may, node.status, run_state=run.status)
    match action:
        case NodeAction.PAUSE:
            cuts_off = mode is ControlMode.INTERRUPT and node.status is NodeStatus.RUNNING
            return cuts_off or CONTROL not in node.pause_reasons
        case NodeAction.RESUME:
            return CONTROL in node.pause_reasons
        case NodeAction.SKIP:
            return node.status is not NodeStatus.SKIPPED
        case NodeAction.OVERRIDE:
            return True


def judge_rerun(run: Standing, node: NodeStanding) -> None:
    """Raises Rejection."""
    if node.status in RERUNNABLE and not _is_canceled(run):
        return
    where = f"the node is {node.status} and its run {_in_words(run)}"
    if not _is_canceled(run):
        where += "; another attempt follows one that has ended: the node must be reviewing, paused, completed or failed"
    raise _refused(where, "another attempt", legal_node_actions(run, node), node.status, run_state=run.status)


def useful_actions(run: Standing) -> list[RunAction]:
    """What is legal, in the order of its declaration; a cancel that was given may be repeated, but to no purpose."""
    return [a for a in RunAction if _is_legal(a, run) and not (_is_canceled(run) and a is RunAction.CANCEL)]


def legal_node_actions(run: Standing, node: NodeStanding) -> list[NodeAction]:
    if _is_canceled(run):
        return []
    over = run.state in RUN_FINAL
    return [
        action
        for action in NodeAction
        if node.status in NODE_LEGAL_ORDERS[action]
        and (not over or action in REOPENING)
        and not (action is NodeAction.RESUME and _only_a_verdict_holds(node))
    ]


def _only_a_verdict_holds(node: NodeStanding) -> bool:
    return VERDICT in node.pause_reasons and CONTROL not in node.pause_reasons


def _is_canceled(run: Standing) -> bool:
    return run.wanted is Wanted.CANCEL or run.state is RunStatus.CANCELED


def _is_legal(action: RunAction, run: Standing) -> bool:
    return _is_possible(action, run) and (action is not RunAction.SKIP_FAILED_AND_RESUME or run.failed_nodes > 0)


def _is_possible(action: RunAction, run: Standing) -> bool:
    being_canceled = run.wanted is Wanted.CANCEL and run.state not in RUN_FINAL
    return run.state in LEGAL[action] and (action is RunAction.CANCEL or not being_canceled)


def _in_words(run: Standing) -> str:
    return "being canceled" if run.wanted is Wanted.CANCEL and run.state not in RUN_FINAL else str(run.state)


def _refused(where: str, action: str, may: Collection[StrEnum], state: StrEnum, **details: StrEnum) -> Rejection:
    rest = f"possible now: {', '.join(may)}" if may else "nothing can be ordered any more"
    message = f"{where}; {action} is not possible, {rest}"
    return Rejection(Code.ILLEGAL_STATE, message, state=state, legal=list(may), **details)
