"""What becomes of a result: it counts at once, or it is handed in and counts when it is accepted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from contracts.executor import NodeStatus
from contracts.plan import Gate
from contracts.run_facts import NodeCompleted, NodeReviewing
from services.executor.domain.draft import Draft
from services.executor.domain.facts import NO_USAGE, Succeeded
from services.executor.domain.node_moves import release_successors
from services.executor.domain.run import NO_REASONS, AttemptStatus, Node

PREVIEW_CHARACTERS = 2_000


def succeed(draft: Draft, fact: Succeeded) -> None:
    node = draft.nodes[fact.key]
    draft.close(node, AttemptStatus.SUCCEEDED, fact=fact)
    if node.plan.gate is Gate.GATE:
        patience = draft.run.review.patience
        due = draft.now + patience if patience is not None else None
        draft.move(node, NodeStatus.REVIEWING, pause_reasons=NO_REASONS, due_at=due)
        _hand_in(draft, node, fact, due)
        return
    draft.move(node, NodeStatus.COMPLETED, pause_reasons=NO_REASONS)
    release_successors(draft, fact.key)
    draft.tell_node(NodeCompleted, node, node.attempt, **_result(fact))
    _count_purchases(draft, fact)
    if node.plan.gate is Gate.OBSERVE:
        _hand_in(draft, node, fact, None)


def _hand_in(draft: Draft, node: Node, fact: Succeeded, due: datetime | None) -> None:
    plan, run = node.plan, draft.run
    draft.tell_node(
        NodeReviewing,
        node,
        node.attempt,
        gate=plan.gate,
        title=plan.title,
        project=run.project,
        task_id=run.task_id,
        role=plan.role,
        agent_id=plan.agent_id,
        deadline_at=due,
        **_result(fact),
    )
    _count_purchases(draft, fact)


def _count_purchases(draft: Draft, fact: Succeeded) -> None:
    """Who runs a tool may have called a model for that, and has told the books, not us."""
    if fact.effort.used_tools:
        draft.leave_open()


def _result(fact: Succeeded) -> dict[str, Any]:
    output, effort = fact.output, fact.effort
    return {
        "checksum": output.checksum if output else None,
        "output_preview": output.text[:PREVIEW_CHARACTERS] if output else None,
        "model": effort.model,
        "requested": effort.requested,
        "usage": effort.spend.usage(),
        "duration_ms": effort.duration_ms,
        "warnings": list(fact.warnings),
    }


def accept(draft: Draft, node: Node, warnings: Sequence[str] = ()) -> None:
    """A result that was held back counts. What it is, the database knows."""
    was_paused = node.status is NodeStatus.PAUSED
    draft.move(node, NodeStatus.COMPLETED, pause_reasons=NO_REASONS, due_at=None)
    if was_paused:
        draft.recount()
    else:
        release_successors(draft, node.plan.key)
    verdict = {"score": node.heard.score, "released_by": node.heard.by} if node.heard else {}
    about: dict[str, Any] = {"checksum": None, "output_preview": None, "model": None, "duration_ms": None}
    draft.tell_node(NodeCompleted, node, node.attempt, usage=NO_USAGE, warnings=list(warnings), **verdict, **about)
    draft.leave_open()
