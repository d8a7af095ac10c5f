"""Who pays for vectors that a provider makes, and what a call for them took."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal
from uuid import UUID

from contracts.budgets import Payer
from contracts.knowledge import Embedder, Searcher, SpaceScope
from contracts.refs import SLUG_PATTERN
from contracts.review import ReviewCase
from contracts.tool import ToolContext

AROUND_A_TEXT = 16  # tokens that a model puts around each
MOST_TOKENS = 100_000_000  # beyond them, what a server says of a call is nonsense

Purpose = Literal["documents", "questions"]


@dataclass(frozen=True, slots=True)
class Buyer:
    """`place` is the attempt that asks, when it is an agent at work."""

    company: str
    payer: Payer
    purpose: Purpose
    place: ToolContext | None = None


@dataclass(frozen=True, slots=True)
class EmbeddingCall:
    """A request that left. `cost` None: its price is not known. `estimated`: nobody can tell what it took, and `cost` is the
    most that it can have been."""

    id: UUID
    buyer: Buyer
    embedder: Embedder
    texts: int
    tokens: int
    cost: Decimal | None
    estimated: bool
    latency_ms: int


def for_documents(company: str, scope: SpaceScope, scope_id: str | None) -> Buyer:
    """What lies in a space is embedded for whose space it is."""
    project = scope_id if scope is SpaceScope.PROJECT and re.fullmatch(SLUG_PATTERN, scope_id or "") else None
    agent = scope_id if scope is SpaceScope.AGENT else None
    return Buyer(company, Payer(project=project, agent_id=agent), "documents")


def for_question(company: str, searcher: Searcher | None) -> Buyer:
    project, agent = (searcher.project, searcher.agent_id) if searcher else (None, None)
    return Buyer(company, Payer(project=project, agent_id=agent), "questions")


def for_attempt(company: str, case: ReviewCase, place: ToolContext) -> Buyer:
    """Its run's budgets bear it."""
    payer = Payer(project=case.project_id, task_id=case.task_id, agent_id=case.spec.agent_id or None)
    return Buyer(company, payer, "questions", place)


def most_tokens(texts: Sequence[str]) -> int:
    """A bound, not a guess: no tokenizer makes more tokens of a text than it has bytes."""
    return sum(len(text.encode("utf-8", "surrogatepass")) + AROUND_A_TEXT for text in texts)


def tokens_said(usage: object) -> int | None:
    """What a provider says that a call took; None when it does not say, or nothing that can be so."""
    if not isinstance(usage, dict):
        return None
    said = usage.get("prompt_tokens", usage.get("total_tokens"))
    return said if type(said) is int and 0 <= said <= MOST_TOKENS else None
