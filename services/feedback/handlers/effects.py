"""What every verdict changes together, whoever gives it: the feedback, which verdict is in force, and what is told of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from prometheus_client import Counter

from chassis.unit_of_work import Tx
from contracts.executor import Usage
from contracts.feedback import FeedbackCritical, FeedbackGiven, VerdictGiven
from contracts.review import ReviewCase
from contracts.scope import Scope
from contracts.verdict import Decision, Source
from services.feedback.domain.verdicts import Ruling, Said, Standing, Terms, rule, terms
from services.feedback.store.feedbacks import FeedbackStore, NewFeedback
from services.feedback.store.policies import PolicyStore

VERDICTS = Counter(
    "feedback_verdicts_total", "Verdicts by who gave them and what they made of the node", ["source", "effect"]
)
BEGINNING = 500  # characters of a comment in a fact
MOST_OF_A_CRITIQUE = 12_000  # characters: of four bytes each they still travel in a fact
MOST_FAILED = 20  # criteria in a fact


@dataclass(frozen=True, slots=True)
class Word:
    """What is said of an attempt, by whom. Without a score it is a comment."""

    source: Source
    score: int | None
    reviewer: str | None = None
    comment: str | None = None
    critique: str | None = None
    wants: Decision | None = None
    unusable: bool = False
    unavailable: str | None = None  # why no model had a say
    failed: list[str] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    evaluation: dict[str, Any] = field(default_factory=dict)
    usage: Usage | None = None
    job_id: UUID | None = None


async def put_on_record(tx: Tx, company: str, case: ReviewCase, standing: Standing, word: Word, server: Terms) -> UUID:
    """The id of the feedback. The attempt is held."""
    store, id = FeedbackStore(tx.conn), uuid4()
    if word.score is None:
        threshold, ruling = None, None
    else:
        applying = terms(await PolicyStore(tx.conn).applying(company, scopes(company, case)), server)
        said = Said(word.source, word.score, word.wants, word.unusable)
        threshold, ruling = applying.threshold, rule(said, applying, case.gate, standing)
    await store.add(company, case, _new(id, word, threshold, ruling, tx.context.request_id))
    about = _about(company, case, id, word)
    decision = ruling.decision if ruling else None
    tx.publish(
        FeedbackGiven(
            **about,
            decision=decision,
            comment=_beginning(word.comment),
            review_unavailable=_beginning(word.unavailable),
        )
    )
    if ruling is not None and ruling.counts:
        version = await store.enforce(case, id)
        _tell(tx, about, word, ruling, threshold or 0, version)
        VERDICTS.labels(word.source, ruling.effect).inc()
    return id


def scopes(company: str, case: ReviewCase) -> list[tuple[Scope, str]]:
    named = (
        (Scope.COMPANY, company),
        (Scope.PROJECT, case.project_id),
        (Scope.TASK, str(case.task_id) if case.task_id else None),
        (Scope.AGENT, case.spec.agent_id),
    )
    return [(scope, id) for scope, id in named if id]


def _tell(tx: Tx, about: dict[str, Any], word: Word, ruling: Ruling, threshold: int, version: int) -> None:
    if ruling.critical:
        failed = [name[:200] for name in word.failed[:MOST_FAILED]]
        comment = _beginning(word.comment)
        tx.publish(FeedbackCritical(**about, threshold=threshold, failed_criteria=failed, comment=comment))
    tx.publish(
        VerdictGiven(
            **about,
            version=version,
            effect=ruling.effect,
            decision=ruling.decision,
            critical=ruling.critical,
            threshold=threshold,
            critique=_beginning(word.critique or word.comment, MOST_OF_A_CRITIQUE),
            usage=word.usage,
        )
    )


def _about(company: str, case: ReviewCase, id: UUID, word: Word) -> dict[str, Any]:
    return {
        "company": company,
        "feedback_id": id,
        "run_id": case.run_id,
        "node_id": case.node_id,
        "key": case.spec.key,
        "attempt": case.attempt,
        "source": word.source,
        "score": word.score,
        "reviewer": word.reviewer,
    }


def _new(id: UUID, word: Word, threshold: int | None, ruling: Ruling | None, request_id: str) -> NewFeedback:
    return NewFeedback(
        id=id,
        source=word.source,
        reviewer=word.reviewer,
        score=word.score,
        threshold=threshold,
        decision=ruling.decision if ruling else None,
        critical=ruling.critical if ruling else False,
        comment=word.comment,
        metadata=word.metadata,
        evaluation=word.evaluation,
        request_id=request_id,
        job_id=word.job_id,
    )


def _beginning(text: str | None, most: int = BEGINNING) -> str | None:
    return text if text is None or len(text) <= most else f"{text[: most - 1]}…"
