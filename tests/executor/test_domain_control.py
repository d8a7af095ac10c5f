"""Which orders are legal, what a refusal says, and which orders change nothing."""

from __future__ import annotations

from itertools import product

import pytest

from contracts.errors import Code, Rejection
from contracts.executor import ControlMode, NodeStatus, RunAction, RunStatus, Wanted
from contracts.run_control import NodeAction
from services.executor.domain.control import NodeStanding, Standing, judge, judge_node

FINISH, INTERRUPT = ControlMode.FINISH, ControlMode.INTERRUPT
CONTROL = frozenset({"control"})
MAY = {
    "queued": ["pause", "resume", "cancel"],
    "running": ["pause", "resume", "cancel", "skip_failed_and_resume"],
    "paused": ["pause", "resume", "cancel", "skip_failed_and_resume"],
    "completed": [],
    "failed": ["skip_failed_and_resume"],
    "canceled": ["cancel"],
}
NODE_MAY = {
    "queued": ["pause", "resume", "skip", "override"],
    "running": ["pause", "resume", "skip", "override"],
    "reviewing": ["override"],
    "paused": ["pause", "resume", "skip", "override"],
    "completed": ["override"],
    "failed": ["skip", "override"],
    "skipped": ["skip"],
    "canceled": [],
}


def refusal(action: RunAction, run: Standing) -> Rejection:
    with pytest.raises(Rejection) as refused:
        judge(action, FINISH, run)
    return refused.value


def node_refusal(action: NodeAction, run: Standing, node: NodeStanding) -> Rejection:
    with pytest.raises(Rejection) as refused:
        judge_node(action, FINISH, run, node)
    return refused.value


@pytest.mark.parametrize(("order", "state"), list(product(RunAction, RunStatus)))
def test_an_order_is_judged_by_the_state_it_meets(order: RunAction, state: RunStatus) -> None:
    run = Standing(state, Wanted.CANCEL if state is RunStatus.CANCELED else Wanted.RUN, failed_nodes=1)
    if order in MAY[state]:
        judge(order, FINISH, run)
        return
    refused = refusal(order, run).failure
    useful = [] if state is RunStatus.CANCELED else MAY[state]
    assert (refused.code, refused.details) == (Code.ILLEGAL_STATE, {"state": state, "legal": useful})
    assert f"the run is {state}" in refused.message
    assert all(action in refused.message for action in useful)


def test_a_canceled_run_names_no_order_as_possible_although_cancel_may_be_repeated() -> None:
    run = Standing(RunStatus.CANCELED, Wanted.CANCEL)
    assert judge(RunAction.CANCEL, FINISH, run) is False
    assert str(refusal(RunAction.PAUSE, run)) == (
        "the run is canceled; pause is not possible, nothing can be ordered any more"
    )


@pytest.mark.parametrize(("order", "state"), list(product(NodeAction, NodeStatus)))
def test_a_nodes_order_is_judged_by_the_state_it_meets(order: NodeAction, state: NodeStatus) -> None:
    run, node = Standing(RunStatus.RUNNING), NodeStanding(state)
    if order in NODE_MAY[state]:
        judge_node(order, FINISH, run, node)
        return
    refused = node_refusal(order, run, node).failure
    assert refused.code is Code.ILLEGAL_STATE
    assert refused.details == {"state": state, "legal": NODE_MAY[state], "run_state": "running"}


def test_nothing_comes_after_a_cancel_that_is_under_way() -> None:
    run = Standing(RunStatus.RUNNING, Wanted.CANCEL, failed_nodes=1)
    for action in (RunAction.PAUSE, RunAction.RESUME, RunAction.SKIP_FAILED_AND_RESUME):
        refused = refusal(action, run)
        assert "being canceled" in str(refused)
        assert refused.failure.details["legal"] == []
    assert judge(RunAction.CANCEL, FINISH, run) is False
    for node_action in NodeAction:
        assert node_refusal(node_action, run, NodeStanding(NodeStatus.QUEUED)).failure.details["legal"] == []


def test_a_run_that_completed_before_its_cancel_took_effect_can_be_gone_on_with() -> None:
    run = Standing(RunStatus.COMPLETED, Wanted.RUN)
    assert judge_node(NodeAction.OVERRIDE, FINISH, run, NodeStanding(NodeStatus.COMPLETED)) is True


def test_skipping_needs_something_that_failed() -> None:
    refused = refusal(RunAction.SKIP_FAILED_AND_RESUME, Standing(RunStatus.RUNNING)).failure
    assert (refused.code, refused.details["legal"]) == (Code.NOTHING_TO_SKIP, ["pause", "resume", "cancel"])


def test_what_is_wanted_already_is_not_ordered_again() -> None:
    assert judge(RunAction.RESUME, FINISH, Standing(RunStatus.RUNNING)) is False
    assert judge(RunAction.PAUSE, FINISH, Standing(RunStatus.RUNNING, Wanted.PAUSE, effective=False)) is False
    assert judge(RunAction.CANCEL, FINISH, Standing(RunStatus.CANCELED, Wanted.CANCEL)) is False
    waiting = Standing(
        RunStatus.FAILED, failed_nodes=1, reopening=True, waiting=frozenset({RunAction.SKIP_FAILED_AND_RESUME})
    )
    assert judge(RunAction.SKIP_FAILED_AND_RESUME, FINISH, waiting) is False


@pytest.mark.parametrize(
    ("asked", "effective", "asks", "new"),
    [
        (FINISH, False, INTERRUPT, True),
        (FINISH, True, INTERRUPT, False),
        (INTERRUPT, False, FINISH, False),
        (INTERRUPT, False, INTERRUPT, False),
    ],
)
def test_a_pause_that_lets_nodes_finish_can_still_be_made_to_interrupt_them(
    asked: ControlMode, effective: bool, asks: ControlMode, new: bool
) -> None:
    run = Standing(RunStatus.RUNNING, Wanted.PAUSE, asked, effective)
    assert judge(RunAction.PAUSE, asks, run) is new


def test_a_failed_run_about_to_go_on_is_judged_as_a_running_one() -> None:
    run = Standing(RunStatus.FAILED, reopening=True, failed_nodes=1)
    assert judge(RunAction.PAUSE, FINISH, run) is True
    assert judge_node(NodeAction.PAUSE, FINISH, run, NodeStanding(NodeStatus.QUEUED)) is True


def test_in_a_run_that_has_ended_a_node_can_be_skipped_or_overridden_only() -> None:
    refused = node_refusal(NodeAction.PAUSE, Standing(RunStatus.FAILED), NodeStanding(NodeStatus.QUEUED)).failure
    assert (refused.details["legal"], refused.details["run_state"]) == (["skip", "override"], "failed")
    assert "the node is queued and its run failed" in refused.message
    canceled = Standing(RunStatus.CANCELED, Wanted.CANCEL)
    refused = node_refusal(NodeAction.OVERRIDE, canceled, NodeStanding(NodeStatus.COMPLETED)).failure
    assert refused.details["legal"] == []


def test_a_nodes_order_that_is_carried_out_already_is_not_given_again() -> None:
    run = Standing(RunStatus.RUNNING)
    paused, running = NodeStanding(NodeStatus.PAUSED, CONTROL), NodeStanding(NodeStatus.RUNNING, CONTROL)
    assert judge_node(NodeAction.PAUSE, FINISH, run, paused) is False
    assert judge_node(NodeAction.PAUSE, INTERRUPT, run, paused) is False
    assert judge_node(NodeAction.PAUSE, FINISH, run, running) is False
    assert judge_node(NodeAction.PAUSE, INTERRUPT, run, running) is True
    assert judge_node(NodeAction.RESUME, FINISH, run, NodeStanding(NodeStatus.QUEUED)) is False
    assert judge_node(NodeAction.SKIP, FINISH, run, NodeStanding(NodeStatus.SKIPPED)) is False


def test_orders_that_wait_count_as_carried_out() -> None:
    queued = NodeStanding(NodeStatus.QUEUED)
    assert queued.ordered([NodeAction.PAUSE]) == NodeStanding(NodeStatus.PAUSED, CONTROL)
    assert queued.ordered([NodeAction.PAUSE, NodeAction.RESUME]) == queued
    assert queued.ordered([NodeAction.SKIP, NodeAction.OVERRIDE]).status is NodeStatus.SKIPPED
    assert NodeStanding(NodeStatus.COMPLETED).ordered([NodeAction.OVERRIDE]) == queued
    assert NodeStanding(NodeStatus.PAUSED, CONTROL).ordered([NodeAction.OVERRIDE]).status is NodeStatus.PAUSED
    assert NodeStanding(NodeStatus.RUNNING).ordered([NodeAction.PAUSE]) == NodeStanding(NodeStatus.RUNNING, CONTROL)
