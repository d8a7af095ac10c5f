"""Verdicts on results: who gives them, what they say, and what they make of a node."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, Field

from contracts.refs import Value

Score = Annotated[int, Field(ge=0, le=100)]


class Source(StrEnum):
    AUTO = "auto"
    HUMAN = "human"


class Decision(StrEnum):
    ACCEPT = "accept"
    REVISE = "revise"  # worth another attempt that is told what was missing
    REJECT = "reject"


class Effect(StrEnum):
    """What a verdict makes of its node."""

    RELEASE = "release"  # its result counts: what depends on it may start
    HOLD = "hold"  # it is paused, and with it what depends on it
    REVISE = "revise"  # it runs again by itself, with the critique in its prompt
    NOTE = "note"  # nothing: it is only shown


class Verdict(Value):
    """The verdict that a node obeys, of its attempt `attempt`."""

    feedback_id: UUID
    attempt: int
    version: int
    effect: Effect
    decision: Decision
    critical: bool
    score: int | None
    threshold: int | None = None  # below it a score is critical
    source: Source
    reviewer: str | None
    critique: str | None
    at: AwareDatetime
