"""Verdicts as watchers see them: what a fact says, and what it makes of the tree."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from fluidcrew.progress import Happened, NodeView, RunView
from fluidcrew.render.facts import happened_line
from fluidcrew.render.run import headline

START = datetime(2025, 3, 1, 12, 0, 0, tzinfo=UTC)


def happened(level: str, **told: Any) -> Happened:
    return Happened(level, START, {"key": "draft", "attempt": 1} | told)


def one_node() -> RunView:
    return RunView(
        "r", "A study", "running", nodes={"draft": NodeView("n", "draft", "Draft", status="running", attempt=1)}
    )


def test_a_policy_that_changed_says_what_counts_now() -> None:
    about = {"scope": "agent", "scope_id": "ada", "critical_threshold": 70, "auto_revise": None, "by": "ada"}
    now = happened_line(Happened("POLICY_CHANGED", START, about | {"removed": False})).plain
    assert now.endswith("agent ada  by ada · critical below 70, – revisions by itself")
    gone = about | {"critical_threshold": None, "removed": True}
    assert happened_line(Happened("POLICY_CHANGED", START, gone)).plain.endswith("by ada · removed")


@pytest.mark.parametrize(
    ("level", "told", "line"),
    [
        ("NODE_REVIEWING", {"gate": "gate", "role": "writer", "duration_ms": 840}, " draft  writer · 840 ms"),
        ("NODE_REVIEWING", {"gate": "observe"}, " draft  only observed"),
        (
            "FEEDBACK_GIVEN",
            {"score": 35, "decision": "revise", "source": "auto", "comment": "no\nJSON"},
            " draft  score 35 · revise · automatic · no JSON",
        ),
        (
            "FEEDBACK_CRITICAL",
            {"score": 35, "threshold": 60, "source": "human", "reviewer": "ada", "failed_criteria": ["format"]},
            "score 35 < 60 · by ada · format",
        ),
        (
            "FEEDBACK_GIVEN",
            {"source": "auto", "score": 70, "review_unavailable": "the reviewer was late"},
            "score 70 · automatic · no model's review: the reviewer was late",
        ),
        (
            "VERDICT_GIVEN",
            {"version": 2, "effect": "hold", "score": 35, "decision": "reject", "source": "human", "reviewer": "ada"},
            " draft  score 35 · reject · held · by ada",
        ),
        ("NODE_REVIEW_OVERDUE", {"policy": "closed"}, " draft  a person decides"),
        ("NODE_REVIEW_OVERDUE", {"policy": "open"}, " draft  its result counts"),
        (
            "NODE_VERDICT_LAPSED",
            {"effect": "release", "of_attempt": 1, "attempt": 2, "reason": "about an older attempt"},
            "attempt 2 · released · about an older attempt",
        ),
        (
            "NODE_RERUN_ASKED",
            {"fields": ["instructions"], "by": "ada, admin", "keep_descendants": True},
            "instructions by ada, admin · what depends on it keeps its results",
        ),
        ("NODE_RERUN_ASKED", {"fields": [], "by": "ada", "keep_descendants": False}, " draft  by ada"),
        ("NODE_COMPLETED", {"score": 90, "released_by": "ada"}, " draft  score 90 · released by ada"),
    ],
)
def test_facts_of_judging_say_who_found_what_and_what_follows(level: str, told: dict[str, Any], line: str) -> None:
    assert line in happened_line(happened(level, **told)).plain


def test_a_verdict_holds_a_node_until_it_runs_again_or_is_released() -> None:
    view, node = (run := one_node()), run.nodes["draft"]
    view.apply(happened("NODE_REVIEWING", gate="gate"))
    assert (node.status, view.held) == ("reviewing", [])
    view.apply(happened("VERDICT_GIVEN", effect="hold", score=35, critique="no JSON"))
    view.apply(happened("NODE_PAUSED", reasons=["verdict"]))
    assert (node.status, node.score, node.critique, view.held) == ("paused", 35, "no JSON", [node])
    assert headline(view).plain == "Run A study  running  needs attention"
    view.apply(happened("NODE_REQUEUED", reason="run again"))
    assert view.held == []
    view.apply(happened("NODE_STARTED", attempt=2))
    view.apply(happened("VERDICT_GIVEN", effect="hold", score=10))
    assert (node.score, view.held) == (None, []), "it is about an older attempt"
    view.apply(happened("NODE_COMPLETED", attempt=2, score=90))
    assert (node.status, node.score) == ("completed", 90)


def test_a_review_that_only_observes_leaves_a_completed_node_completed() -> None:
    view = one_node()
    view.apply(happened("NODE_COMPLETED", duration_ms=10))
    view.apply(happened("NODE_REVIEWING", gate="observe"))
    assert view.nodes["draft"].status == "completed"
    view.apply(happened("VERDICT_GIVEN", effect="note", score=35))
    assert (view.nodes["draft"].score, view.held) == (35, [])


def test_a_node_that_no_review_came_for_waits_for_a_person_too() -> None:
    of = {"id": "n", "key": "draft", "status": "paused", "attempt": 2}
    assert NodeView.of(of | {"pause_reasons": ["verdict"]}).held
    assert not NodeView.of(of | {"pause_reasons": ["control"]}).held
    older = {"attempt": 1, "effect": "hold", "score": 3}
    assert not NodeView.of(of | {"status": "completed", "verdict": older}).held
