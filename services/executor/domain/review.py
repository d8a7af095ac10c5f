"""What does a verdict make of a node, and what if none comes? An older attempt's verdict never moves a newer one."""

from __future__ import annotations

from typing import assert_never

from contracts.executor import NodeStatus, RunStatus
from contracts.review import Guidance, OverduePolicy
from contracts.run_facts import NodePaused, NodeReviewOverdue, NodeVerdictLapsed
from contracts.verdict import Effect, Source, Verdict
from services.executor.domain import node_moves, results
from services.executor.domain.draft import Draft
from services.executor.domain.facts import Judged
from services.executor.domain.run import VERDICT, Guided, Heard, Node, has_result
from services.executor.domain.status import RUN_FINAL

NOT_REVIEWED = "no verdict came in time; its result counts all the same"


def judge(draft: Draft, fact: Judged) -> None:
    node, verdict = draft.nodes[fact.key], fact.verdict
    if (reason := _void(draft.run.status, node, verdict)) is not None:
        about = {"feedback_id": verdict.feedback_id, "of_attempt": verdict.attempt, "effect": verdict.effect}
        draft.tell_node(NodeVerdictLapsed, node, node.attempt, reason=reason, **about)
        return
    by = verdict.reviewer if verdict.source is Source.HUMAN else None
    draft.nodes[fact.key] = node = node._replace(heard=Heard(verdict.version, verdict.score, by))
    draft.judged.append((node.plan, verdict))
    match verdict.effect:
        case Effect.RELEASE:
            _release(draft, node)
        case Effect.HOLD if draft.run.status not in RUN_FINAL:
            _hold(draft, node, by)
        case Effect.REVISE:
            _revise(draft, node, verdict)
        case Effect.HOLD | Effect.NOTE:
            pass
        case _:
            assert_never(verdict.effect)


def _void(run: RunStatus, node: Node, verdict: Verdict) -> str | None:
    """Why nothing comes of the verdict."""
    if verdict.attempt != node.attempt:
        return f"it is about attempt {verdict.attempt}, and the node is at attempt {node.attempt}"
    if not has_result(node):
        return f"the node is {node.status} by now, and the result that was judged counts no more"
    if node.heard is not None and verdict.version <= node.heard.version:
        return f"it is the verdict number {verdict.version} on the attempt, and number {node.heard.version} has come before"
    if run is RunStatus.CANCELED or (run in RUN_FINAL and verdict.effect is Effect.REVISE):
        return f"the run is {run} by now"
    return None


def _release(draft: Draft, node: Node) -> None:
    if node.status is NodeStatus.COMPLETED:
        return
    left = node.pause_reasons - {VERDICT}
    if left:
        draft.change(node, pause_reasons=left)
        draft.tell_node(NodePaused, node, node.attempt, reasons=sorted(left))
        draft.recount()
    else:
        results.accept(draft, node)


def _hold(draft: Draft, node: Node, by: str | None) -> None:
    if VERDICT in node.pause_reasons:
        return
    node = node._replace(pause_reasons=node.pause_reasons | {VERDICT})
    if node.status is NodeStatus.PAUSED:
        draft.change(node)
        draft.tell_node(NodePaused, node, node.attempt, reasons=sorted(node.pause_reasons), by=by)
    else:
        node_moves.pause(draft, node, by, due_at=None)
    draft.recount()


def _revise(draft: Draft, node: Node, verdict: Verdict) -> None:
    guidance = Guidance(critique=verdict.critique, of_attempt=verdict.attempt)
    draft.guided.append(Guided(node.plan, node.attempt + 1, guidance, on_top=True))
    node_moves.run_again(draft, node, "its review asks for another attempt")
    node_moves.make_stale(draft, node.plan.key)


def let_overdue_ones_go(draft: Draft) -> None:
    """Results whose verdict did not come in time count, or wait for a person."""
    if draft.run.review.patience is None or draft.run.status in RUN_FINAL:
        return
    for node in list(draft.nodes.values()):
        if node.status is NodeStatus.REVIEWING and node.due_at is not None and node.due_at <= draft.now:
            _let_go(draft, node, draft.run.review.overdue)


def _let_go(draft: Draft, node: Node, policy: OverduePolicy) -> None:
    draft.tell_node(NodeReviewOverdue, node, node.attempt, policy=policy)
    match policy:
        case OverduePolicy.OPEN:
            results.accept(draft, node, warnings=[NOT_REVIEWED])
        case OverduePolicy.CLOSED:
            _hold(draft, node, None)
        case _:
            assert_never(policy)
