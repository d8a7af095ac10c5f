"""Verdicts in words: a score, what it makes of its node, who gave it and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.text import Text

from fluidcrew.progress import RunView, moment
from fluidcrew.render import words
from fluidcrew.render.places import command

EFFECT = {"release": "released", "hold": "held", "revise": "runs again by itself", "note": "noted"}


def judged(told: Mapping[str, Any]) -> list[str]:
    """The parts of a fact that are about judging."""
    parts = [_score(told)] if told.get("score") is not None else []
    parts += [str(told["decision"])] if told.get("decision") else []
    parts += [EFFECT.get(str(told["effect"]), str(told["effect"]))] if told.get("effect") else []
    parts += [_giver(told)] if told.get("source") else []
    parts += [f"released by {words.one_line(words.person(told['released_by']), 80)}"] if told.get("released_by") else []
    parts += ["its result counts" if told["policy"] == "open" else "a person decides"] if told.get("policy") else []
    parts += ["only observed"] if told.get("gate") == "observe" else []
    parts += ["what depends on it keeps its results"] if told.get("keep_descendants") else []
    parts += [f"no model's review: {words.one_line(str(told['review_unavailable']))}"] if _no_review(told) else []
    said = told.get("comment")  # the critique of a verdict is that of the feedback that was told before it
    return parts + ([words.one_line(str(said), 160)] if said else [])


def _no_review(told: Mapping[str, Any]) -> bool:
    return bool(told.get("review_unavailable"))


def _score(told: Mapping[str, Any]) -> str:
    score = f"score {told['score']}"
    if told.get("threshold") is None:
        return score
    return f"{score} {'<' if told['score'] < told['threshold'] else '≥'} {told['threshold']}"


def _giver(told: Mapping[str, Any]) -> str:
    """`by ada`, or `automatic`."""
    if told["source"] == "auto":
        return "automatic"
    return f"by {words.one_line(words.person(told.get('reviewer') or 'a person'), 80)}"


def verdict_words(feedback: Mapping[str, Any]) -> str:
    """A feedback on one line: `score 80, accept, by ada, 14:03:07: well done`."""
    parts = [f"score {feedback['score']}"] if feedback.get("score") is not None else []
    parts += [str(feedback["decision"])] if feedback.get("decision") else []
    parts += [_giver(feedback)] if feedback.get("source") else []
    at = moment(feedback.get("created_at") or feedback.get("at"))
    parts += [words.clock(at)] if at else []
    said = feedback.get("comment") or feedback.get("critique")
    return ", ".join(parts) + (f": {words.one_line(str(said), 200)}" if said else "")


def decide_with() -> str:
    return f"it waits for your word: {command()} review"


def held_lines(view: RunView) -> Iterator[Text]:
    """What waits for a person, and how to answer."""
    for node in view.held:
        score = "" if node.score is None else f" ({node.score}/100)"
        why = f": {words.one_line(node.critique, 200)}" if node.critique else ""
        yield Text.assemble((f"{node.key}{score}", "bold"), why, style="yellow")
    if view.held:
        yield Text(decide_with(), style="yellow")
