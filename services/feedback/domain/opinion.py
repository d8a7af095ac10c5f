"""What must a reviewing model say, and what do its opinion and the checks of code come to together?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field

from contracts.feedback import Criterion
from contracts.verdict import Decision
from services.feedback.domain.checks import Checked, Finding

BY_CODE = "check"
NOTHING_AMISS = "nothing that code can check is amiss"
MOST_CRITERIA = 50
MOST_OF_A_REASON = 500  # characters
MOST_OF_A_COMMENT = 4_000
MOST_OF_A_CRITIQUE = 6_000
ENOUGH = 60  # a criterion below this has failed, whatever the threshold of the whole


def _whole(value: Any) -> Any:
    return round(value) if isinstance(value, float) and 0 <= value <= 100 else value


Points = Annotated[int, Field(ge=0, le=100), BeforeValidator(_whole)]


class CriterionOpinion(BaseModel):
    """How far the result meets one criterion."""

    name: str = Field(description="the criterion, in its own words or shortened")
    score: Points = Field(description="0 to 100")
    reason: str = Field(description="one sentence that names what in the result it follows from")


class Opinion(BaseModel):
    """The review of a result."""

    overall_score: Points = Field(description="0 to 100; below 60 the result must not be built upon")
    criteria: list[CriterionOpinion] = Field(
        default_factory=list, description="each acceptance criterion, then what else counts"
    )
    failed_criteria: list[str] = Field(default_factory=list, description="names of the criteria that are not met")
    decision: Decision = Field(
        description="accept; revise: another attempt can mend it; reject: not what was asked for"
    )
    comment: str = Field(description="what is good, what is missing and what to change, in at most six sentences")


@dataclass(frozen=True, slots=True)
class Assessment:
    """What a review comes to, before any threshold. `critique` is what the author of another attempt is told."""

    score: int
    unusable: bool  # a hard check has failed
    decision: Decision | None  # what the model would do; None: no model had a say
    criteria: list[Criterion]
    failed: list[str]
    comment: str
    critique: str


def assess(checked: Checked, opinion: Opinion | None, reviewer: str | None) -> Assessment:
    counted = [f for f in checked.findings if not (f.by_meaning and opinion is not None)]
    criteria = [_of_code(finding) for finding in counted]
    if opinion is not None:
        failed = {name.strip() for name in opinion.failed_criteria}
        criteria += [_of_model(c, failed, reviewer or "") for c in opinion.criteria[:MOST_CRITERIA]]
    missed = [criterion for criterion in criteria if not criterion.passed]
    comment = _cut(opinion.comment, MOST_OF_A_COMMENT) if opinion else _told(missed) or NOTHING_AMISS
    return Assessment(
        score=_score(counted, 100 if opinion is None else opinion.overall_score),
        unusable=any(finding.hard and not finding.passed for finding in counted),
        decision=opinion.decision if opinion else None,
        criteria=criteria,
        failed=list(dict.fromkeys(criterion.name for criterion in missed)),
        comment=comment,
        critique=_cut("\n".join(filter(None, (comment if opinion else "", _told(missed)))), MOST_OF_A_CRITIQUE),
    )


def _score(findings: Sequence[Finding], best: int) -> int:
    ceilings = [finding.score for finding in findings if finding.hard and not finding.passed]
    return max(0, min([best - sum(finding.penalty for finding in findings), *ceilings]))


def _of_code(finding: Finding) -> Criterion:
    return Criterion(name=finding.name, score=finding.score, passed=finding.passed, reason=finding.reason, by=BY_CODE)


def _of_model(said: CriterionOpinion, failed: set[str], reviewer: str) -> Criterion:
    name = _cut(" ".join(said.name.split()), 200) or "unnamed"
    passed = said.score >= ENOUGH and said.name.strip() not in failed
    return Criterion(
        name=name, score=said.score, passed=passed, reason=_cut(said.reason, MOST_OF_A_REASON), by=reviewer
    )


def _told(missed: Sequence[Criterion]) -> str:
    return "\n".join(f"- {criterion.name}: {criterion.reason}" for criterion in missed)


def _cut(text: str, most: int) -> str:
    text = text.strip()
    return text if len(text) <= most else f"{text[: most - 1]}…"
