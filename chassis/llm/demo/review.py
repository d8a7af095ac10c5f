"""Answers outputs that are a review (an overall score, scores of criteria, a decision): friendly, short, labelled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chassis.llm.demo.reading import LABEL, Brief

Schema = Mapping[str, Any]

FIELDS = {"overall_score", "criteria", "failed_criteria", "decision", "comment"}
REASON = ("it is there in the result", "on le trouve dans le résultat")
COMMENT = (
    "The step is done; a figure with its source would make it stronger.",
    "L'étape est faite ; un chiffre avec sa source la renforcerait.",
)
LOWEST, HIGHEST = 78, 95


def claims(schema: Schema) -> bool:
    return set(schema.get("properties", {})) >= FIELDS


def respond(_: Schema, brief: Brief) -> dict[str, Any]:
    dice = brief.dice()
    scores = {criterion: dice.randint(LOWEST, HIGHEST) for criterion in brief.criteria}
    overall = round(sum(scores.values()) / len(scores)) if scores else dice.randint(LOWEST, HIGHEST)
    reason = brief.say(*REASON)
    return {
        "overall_score": overall,
        "criteria": [{"name": name, "score": score, "reason": reason} for name, score in scores.items()],
        "failed_criteria": [],
        "decision": "accept",
        "comment": f"{LABEL} {brief.say(*COMMENT)}",
    }
