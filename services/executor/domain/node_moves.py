"""What becomes of a node: started, done, tried again, lost, cut off, skipped, or stale."""

from __future__ import annotations

from typing import Any, assert_never

from contracts.executor import NodeStatus
from contracts.run_facts import (
    NodeFailed,
    NodeInterrupted,
    NodeParked,
    NodePaused,
    NodeRequeued,
    NodeRetried,
    NodeSkipped,
    NodeStarted,
)
from services.executor.domain.budget import BUDGET
from services.executor.domain.draft import Draft
from services.executor.domain.facts import Failed, Parked, Unfunded
from services.executor.domain.retry import GiveUp, RetryAt, after_failure, lost_too_often
from services.executor.domain.run import (
    NO_REASONS,
    VERDICT,
    AttemptStatus,
    Node,
    has_result,
    is_held,
    may_start,
    standing_on,
)
from services.executor.domain.status import IllegalMove

LOST = "the executor that ran it stopped answering"
HANDED_BACK = "the executor that ran it is shutting down"

#: of a node that starts over: nothing of before is held against it
ANEW: dict[str, Any] = {"failures": 0, "losses": 0, "waits": 0, "due_at": None, "error": None}


def start(draft: Draft, key: str) -> None:
    node = draft.nodes[key]
    if not may_start(draft, key, draft.now):
        raise IllegalMove(f"node {key} of a {draft.run.status} run may not start now")
    draft.ready.remove(key)
    draft.running.add(key)
    number = node.attempt + 1
    draft.move(node, NodeStatus.RUNNING, attempt=number, due_at=None, error=None)
    draft.open(node, number)
    draft.tell_node(NodeStarted, node, number, title=node.plan.title, role=node.plan.role)


def fail_attempt(draft: Draft, fact: Failed) -> None:
    node = draft.nodes[fact.key]
    draft.close(node, AttemptStatus.FAILED, error=fact.error, fact=fact)
    decision = after_failure(
        node.history(),
        retriable=fact.retriable,
        weather=fact.weather,
        excuse_ends=fact.excuse_ends,
        retry_after=fact.retry_after,
        jitter=fact.jitter,
        now=draft.now,
    )
    match decision:
        case RetryAt(due, counted):
            retry(
                draft,
                node,
                fact.error,
                failures=node.failures + counted,
                waits=node.waits + (not counted),
                due_at=due,
            )
        case GiveUp():
            fail(draft, node, fact.error, failures=node.failures + 1)
        case _:
            assert_never(decision)


def run_short(draft: Draft, fact: Unfunded) -> None:
    """No failure of the node's: it waits, and nothing is held against it."""
    node = draft.nodes[fact.key]
    draft.close(node, AttemptStatus.CANCELED, error=fact.shortage.said(), fact=fact)
    pause(draft, node._replace(pause_reasons=node.pause_reasons | {BUDGET}))


def park(draft: Draft, fact: Parked) -> None:
    """Told and stored once; how long it takes is the circuit's to say, and only remembered here."""
    node = draft.nodes[fact.key]
    if node.parked_on is not None:
        draft.nodes[fact.key] = node._replace(due_at=fact.until)
        return
    draft.change(node, due_at=fact.until, parked_on=f"{fact.provider}/{fact.model}")
    about = {"provider": fact.provider, "model": fact.model, "until": fact.until, "reason": fact.reason}
    draft.tell_node(NodeParked, node, node.attempt, **about)


def look_again(draft: Draft) -> None:
    """The weather has changed: whoever is parked may try, or is parked for another while."""
    for key in draft.ready:
        if draft.nodes[key].parked_on is not None:
            draft.nodes[key] = draft.nodes[key]._replace(due_at=None)


def lose(draft: Draft, key: str) -> None:
    """Its executor died."""
    node = draft.nodes[key]
    draft.close(node, AttemptStatus.LOST, error=LOST)
    if lost_too_often(node.history()):
        fail(draft, node, f"{LOST}, {node.losses + 1} times in all", losses=node.losses + 1)
    else:
        retry(draft, node, LOST, losses=node.losses + 1)


def hand_back(draft: Draft, key: str) -> None:
    node = draft.nodes[key]
    interrupt(draft, node, AttemptStatus.LOST, HANDED_BACK)
    retry(draft, node, HANDED_BACK)


def retry(draft: Draft, node: Node, error: str, **changes: Any) -> None:
    draft.tell_node(NodeRetried, node, node.attempt, error=error, due_at=changes.get("due_at"))
    put_back(draft, node, error=error, **changes)


def fail(draft: Draft, node: Node, error: str, **changes: Any) -> None:
    draft.move(node, NodeStatus.FAILED, error=error, pause_reasons=NO_REASONS, **changes)
    draft.tell_node(NodeFailed, node, node.attempt, error=error)


def interrupt(draft: Draft, node: Node, status: AttemptStatus, error: str) -> None:
    draft.close(node, status, error=error)
    draft.interrupted.append(node.plan.key)


def cut_off(draft: Draft, node: Node, reason: str, by: str | None = None, **changes: Any) -> None:
    """Stop its attempt on somebody's order. Another one follows, unless the node is to be paused."""
    interrupt(draft, node, AttemptStatus.CANCELED, reason)
    draft.tell_node(NodeInterrupted, node, node.attempt, reason=reason)
    put_back(draft, node, by, **changes)


def put_back(draft: Draft, node: Node, by: str | None = None, **changes: Any) -> None:
    """A node whose attempt is over starts another one in its turn, or when nobody wants it paused any more."""
    if node.pause_reasons:
        pause(draft, node, by, **changes)
        return
    draft.move(node, NodeStatus.QUEUED, **changes)
    if node.blocked == 0:
        draft.ready.append(node.plan.key)


def pause(draft: Draft, node: Node, by: str | None = None, **changes: Any) -> None:
    """`node` brings its reasons with it."""
    if node.plan.key in draft.ready:
        draft.ready.remove(node.plan.key)
    draft.move(node, NodeStatus.PAUSED, pause_reasons=node.pause_reasons, **changes)
    draft.tell_node(NodePaused, node, node.attempt, reasons=sorted(node.pause_reasons), by=by)


def skip(draft: Draft, node: Node, by: str | None = None) -> None:
    key = node.plan.key
    if node.status is NodeStatus.RUNNING:
        interrupt(draft, node, AttemptStatus.CANCELED, "the node was skipped")
    if key in draft.ready:
        draft.ready.remove(key)
    throws_shade = any(is_held(other) for other in draft.nodes.values())
    draft.move(node, NodeStatus.SKIPPED, due_at=None, pause_reasons=NO_REASONS)
    if throws_shade:  # a skipped node ends it, wherever it stands
        draft.recount()
    else:
        release_successors(draft, key)
    draft.tell_node(NodeSkipped, node, node.attempt, by=by)


def release_successors(draft: Draft, key: str) -> None:
    for successor in draft.run.graph.successors[key]:
        node = draft.nodes[successor]
        draft.nodes[successor] = node = node._replace(blocked=node.blocked - 1)
        if node.blocked == 0 and node.status is NodeStatus.QUEUED:
            draft.ready.append(successor)


def run_again(draft: Draft, node: Node, reason: str) -> None:
    """It had ended, or had a result; `Draft.recount` says afterwards whether it is ready. Whoever else wants it paused
    still does."""
    left = node.pause_reasons - {VERDICT}
    if left:
        draft.change(node, pause_reasons=left, heard=None, **ANEW)
    else:
        draft.move(node, NodeStatus.QUEUED, pause_reasons=NO_REASONS, heard=None, **ANEW)
    draft.requeued.append(node.plan.key)
    draft.tell_node(NodeRequeued, node, node.attempt, reason=reason)


def make_stale(draft: Draft, key: str) -> None:
    """What stands on the result of `key` runs again. Skipped nodes, and paused ones without a result, stay what they are."""
    reason, stale = f"{key} runs again", standing_on(draft.run.graph, draft.nodes, [key])
    for descendant in [descendant for descendant in draft.run.graph.plans if descendant in stale]:
        node = draft.nodes[descendant]
        if node.status is NodeStatus.FAILED or has_result(node):
            run_again(draft, node, reason)
        elif node.status is NodeStatus.RUNNING:
            cut_off(draft, node, reason, **ANEW)
    draft.recount()
