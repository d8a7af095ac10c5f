"""What becomes of a run: it goes, pauses, ends and is reopened, and its time passes only while it could move."""

from __future__ import annotations

from typing import Any

from contracts.executor import NodeStatus, RunStatus
from contracts.plan import Gate
from contracts.run_facts import (
    NodeCanceled,
    RunCanceled,
    RunCompleted,
    RunFailed,
    RunPaused,
    RunReopened,
    RunResumed,
    RunStarted,
)
from services.executor.domain import node_moves
from services.executor.domain.draft import Draft
from services.executor.domain.run import NO_REASONS, AttemptStatus
from services.executor.domain.status import NODE_DONE, NODE_FINAL, NODE_HELD, RUN_FINAL

CONTROL = "control"  # the reason to pause that people give; verdicts, budgets and providers have theirs


def settle(draft: Draft) -> None:
    """The run's own state follows from its nodes'."""
    if draft.run.status in RUN_FINAL:
        return
    if not draft.running:
        if not draft.ready and not any(node.status in NODE_HELD for node in draft.nodes.values()):
            finish(draft)
            return
        if draft.run.pause_reasons:
            pause(draft)
        elif draft.run.status is RunStatus.PAUSED:
            go(draft)
    _wind_clock(draft)


def go(draft: Draft) -> None:
    first = draft.run.started_at is None
    draft.move_run(RunStatus.RUNNING, started_at=draft.run.started_at or draft.now, ended_at=None, error=None)
    _start_clock(draft)
    draft.tell_run(RunStarted if first else RunResumed)


def pause(draft: Draft) -> None:
    if draft.run.status is not RunStatus.PAUSED:
        _stop_clock(draft)
        draft.move_run(RunStatus.PAUSED)
        draft.tell_run(RunPaused, reasons=sorted(draft.run.pause_reasons))


def finish(draft: Draft) -> None:
    left = [node for node in draft.nodes.values() if node.status not in NODE_DONE]
    if left:
        failed = [node.plan.key for node in left if node.status is NodeStatus.FAILED]
        fail(draft, f"{len(failed)} of {len(draft.nodes)} nodes failed: {', '.join(failed[:10])}")
        return
    end(draft, RunStatus.COMPLETED)
    skipped = sum(node.status is NodeStatus.SKIPPED for node in draft.nodes.values())
    usage = draft.spend.usage()
    draft.tell_run(
        RunCompleted,
        nodes_completed=len(draft.nodes) - skipped,
        nodes_skipped=skipped,
        cost_usd=usage.cost_usd,
        estimated_calls=usage.estimated_calls,
        unpriced_calls=usage.unpriced_calls,
        tokens=draft.spend.tokens,
    )
    if draft.spend.requests or any(plan.gate is not Gate.OFF for plan in draft.run.graph.plans.values()):
        draft.leave_open()  # reviews and what tools bought are paid by the run as well, and not by its owner


def fail(draft: Draft, reason: str) -> None:
    end(draft, RunStatus.FAILED, error=reason)
    failed = [key for key, node in draft.nodes.items() if node.status is NodeStatus.FAILED]
    draft.tell_run(RunFailed, reason=reason, failed_nodes=failed)


def fail_when_time_is_up(draft: Draft) -> None:
    if draft.run.deadline is None or draft.now < draft.run.deadline:
        return
    seconds = draft.run.timeout.total_seconds() if draft.run.timeout else 0
    reason = f"the run's time of {seconds:g} s is over"
    for key in draft.running_in_order():
        node_moves.interrupt(draft, draft.nodes[key], AttemptStatus.FAILED, reason)
        node_moves.fail(draft, draft.nodes[key], reason)
    fail(draft, reason)


def cancel(draft: Draft) -> None:
    for node in list(draft.nodes.values()):
        if node.status in NODE_FINAL:
            continue
        if node.status is NodeStatus.RUNNING:
            node_moves.interrupt(draft, node, AttemptStatus.CANCELED, "the run was canceled")
        draft.move(node, NodeStatus.CANCELED, due_at=None, pause_reasons=NO_REASONS)
        draft.tell_node(NodeCanceled, node, node.attempt)
    draft.recount()
    end(draft, RunStatus.CANCELED)
    draft.tell_run(RunCanceled)


def reopen(draft: Draft) -> None:
    """A run that had ended goes on, with all its time again. One that goes on already is left alone."""
    if draft.run.status in (RunStatus.COMPLETED, RunStatus.FAILED):
        draft.run = draft.run._replace(time_left=draft.run.timeout)
        draft.tell_run(RunReopened)
        go(draft)


def end(draft: Draft, status: RunStatus, **changes: Any) -> None:
    draft.move_run(status, ended_at=draft.now, deadline=None, time_left=None, pause_reasons=NO_REASONS, **changes)


def want_pause(draft: Draft) -> None:
    draft.run = draft.run._replace(pause_reasons=draft.run.pause_reasons | {CONTROL})


def want_no_pause(draft: Draft) -> None:
    draft.run = draft.run._replace(pause_reasons=draft.run.pause_reasons - {CONTROL})


def _wind_clock(draft: Draft) -> None:
    """A run loses no time while all that is left of it waits for verdicts, people or money. Reviews have a deadline of
    their own."""
    if draft.run.status is not RunStatus.RUNNING:
        return
    if draft.running or draft.ready:
        _start_clock(draft)
    else:
        _stop_clock(draft)


def _start_clock(draft: Draft) -> None:
    if draft.run.time_left is not None:
        draft.run = draft.run._replace(deadline=draft.now + draft.run.time_left, time_left=None)


def _stop_clock(draft: Draft) -> None:
    if draft.run.deadline is not None:
        draft.run = draft.run._replace(time_left=draft.run.deadline - draft.now, deadline=None)
