"""What does a score make of a node, and which of several verdicts on an attempt counts?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from contracts.feedback import Policy
from contracts.plan import Gate
from contracts.scope import Scope
from contracts.verdict import Decision, Effect, Source

NARROWEST_FIRST = (Scope.AGENT, Scope.TASK, Scope.PROJECT, Scope.COMPANY)


@dataclass(frozen=True, slots=True)
class Terms:
    """Below `threshold` a score is critical; `auto_revise` attempts of a node may follow by themselves."""

    threshold: int
    auto_revise: int


@dataclass(frozen=True, slots=True)
class InForce:
    """The verdict on an attempt that counts so far."""

    feedback_id: UUID
    source: Source
    at: datetime


@dataclass(frozen=True, slots=True)
class Standing:
    """How an attempt stands before another verdict. `revisions` counts those of its node that followed by themselves."""

    version: int
    in_force: InForce | None
    revisions: int
    reviewed: bool = False  # its review is done


@dataclass(frozen=True, slots=True)
class Said:
    """A score and what came with it. `unusable`: code is sure of it, whatever the threshold."""

    source: Source
    score: int
    wants: Decision | None = None
    unusable: bool = False


@dataclass(frozen=True, slots=True)
class Ruling:
    decision: Decision
    critical: bool
    effect: Effect
    counts: bool  # it takes force; otherwise it is only recorded


def terms(policies: Iterable[Policy], server: Terms) -> Terms:
    """Each of the two from the narrowest scope that says something of it."""
    by_scope = {policy.scope: policy for policy in policies}
    ordered = [by_scope[scope] for scope in NARROWEST_FIRST if scope in by_scope]
    thresholds = (p.critical_threshold for p in ordered if p.critical_threshold is not None)
    revisions = (p.auto_revise for p in ordered if p.auto_revise is not None)
    return Terms(next(thresholds, server.threshold), next(revisions, server.auto_revise))


def rule(said: Said, terms: Terms, gate: Gate, standing: Standing) -> Ruling:
    passes = said.score >= terms.threshold and not said.unusable
    decision = Decision.ACCEPT if passes else _when_critical(said)
    return Ruling(
        decision=decision,
        critical=not passes,
        effect=_effect(said.source, decision, terms, gate, standing.revisions),
        counts=said.source is Source.HUMAN or standing.in_force is None or standing.in_force.source is Source.AUTO,
    )


def _when_critical(said: Said) -> Decision:
    """A person who finds a result wanting decides what comes next; a review that does not say `reject` asks for more."""
    if said.source is Source.HUMAN:
        return Decision.REVISE if said.wants is Decision.REVISE else Decision.REJECT
    return Decision.REJECT if said.wants is Decision.REJECT else Decision.REVISE


def _effect(source: Source, decision: Decision, terms: Terms, gate: Gate, revisions: int) -> Effect:
    if source is Source.AUTO and gate is not Gate.GATE:
        return Effect.NOTE
    if decision is Decision.ACCEPT:
        return Effect.RELEASE
    if source is Source.AUTO and decision is Decision.REVISE and revisions < terms.auto_revise:
        return Effect.REVISE
    return Effect.HOLD


def was_known(current: InForce | None, seen: UUID | None, asked_at: datetime) -> bool:
    """Whether a person who decides knew the verdict in force, or may have."""
    if seen is not None:
        return current is not None and current.feedback_id == seen
    return current is None or current.source is Source.AUTO or current.at <= asked_at
