"""What must a reviewing model say, and what do its opinion and the checks of code come to together?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
    decision: Decision | None  # what the model would do, whatever comes of it; None: no model had a say
    criteria: list[Criterion]
    failed: list[str]
    comment: str
    critique: str


def assess(checked: Checked, opinion: Opinion | None, reviewer: str | None) -> Assessment:
    unscored = _unscored(opinion) if opinion is not None else []
    counted = [f for f in checked.findings if not (f.by_meaning and opinion is not None)]
    criteria = [_of_code(finding) for finding in counted]
    if opinion is not None:
        failed = {_plain(name) for name in opinion.failed_criteria}
        criteria += [_of_model(c, failed, reviewer or "") for c in opinion.criteria[:MOST_CRITERIA]]
    sure = [_of_code(finding) for finding in counted if finding.hard and not finding.passed]
    missed = [criterion for criterion in criteria if not criterion.passed]
    told = [*_told(criterion for criterion in missed if criterion not in sure), *(f"- {name}" for name in unscored)]
    comment = _comment(_told(sure), told, opinion)
    return Assessment(
        score=_score(counted, 100 if opinion is None else opinion.overall_score),
        unusable=bool(sure),
        decision=opinion.decision if opinion else None,
        criteria=criteria,
        failed=list(dict.fromkeys([*(criterion.name for criterion in missed), *unscored])),
        comment=comment,
        critique=_cut("\n".join([comment, *(told if opinion else [])]), MOST_OF_A_CRITIQUE),
    )


def _comment(sure: Sequence[str], told: Sequence[str], opinion: Opinion | None) -> str:
    """What code is sure of decides, and goes before what a model says of the rest."""
    if opinion is not None:
        return _cut("\n".join([*sure, opinion.comment]), MOST_OF_A_COMMENT)
    return "\n".join([*sure, *told]) or NOTHING_AMISS


def _score(findings: Sequence[Finding], best: int) -> int:
    ceilings = [finding.score for finding in findings if finding.hard and not finding.passed]
    return max(0, min([best - sum(finding.penalty for finding in findings), *ceilings]))


def _of_code(finding: Finding) -> Criterion:
    return Criterion(name=finding.name, score=finding.score, passed=finding.passed, reason=finding.reason, by=BY_CODE)


def _of_model(said: CriterionOpinion, failed: set[str], reviewer: str) -> Criterion:
    passed = said.score >= ENOUGH and _plain(said.name) not in failed
    return Criterion(
        name=_name(said.name), score=said.score, passed=passed, reason=_cut(said.reason, MOST_OF_A_REASON), by=reviewer
    )


def _unscored(opinion: Opinion) -> list[str]:
    """What the model calls failed without having listed it."""
    listed = {_plain(criterion.name) for criterion in opinion.criteria[:MOST_CRITERIA]}
    named = {_plain(name): _name(name) for name in opinion.failed_criteria[:MOST_CRITERIA] if name.strip()}
    return [name for plain, name in named.items() if plain not in listed]


def _name(said: str) -> str:
    return _cut(" ".join(said.split()), 200) or "unnamed"


def _plain(name: str) -> str:
    return " ".join(name.split()).casefold()


def _told(missed: Iterable[Criterion]) -> list[str]:
    return [f"- {criterion.name}: {criterion.reason}" for criterion in missed]


def _cut(text: str, most: int) -> str:
    text = text.strip()
    return text if len(text) <= most else f"{text[: most - 1]}…"
