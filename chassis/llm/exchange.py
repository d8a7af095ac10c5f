"""The account of one call while it happens: what was received so far, and from it the record of success or failure."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime

from chassis.llm.call import UNPAID, Cost, FailureKind, ModelChoice, ModelFailure, Record, Usage, estimated_tokens
from chassis.llm.provider import Answer, Ask, Provider
from chassis.llm.text import clean

#: failures that say nothing about whether the model was at work
SENT: frozenset[FailureKind] = frozenset({"timeout", "connection", "malformed", "filtered"})


def at_most(most: Cost, reason: str) -> Cost:
    """Of a call whose cost nobody can tell. What is free at most is free; a price that is not known stays so."""
    if most.amount == 0:
        return most
    return Cost(most.amount, f"{reason}: this is the most it can have been" if most.known else reason, most.known)


@dataclass(slots=True)
class Exchange:
    choice: ModelChoice
    ask: Ask
    provider: Provider
    started_at: datetime
    started: float  # perf_counter
    received: int = 0  # characters, while streaming
    answer: Answer | None = None

    def text(self) -> str:
        return clean(self.answer.text) if self.answer is not None else ""

    def completed(self, answer: Answer, now: datetime) -> Record:
        if answer.usage is not None:
            cost = self.provider.price(answer.model, answer.usage)
            return self._record(answer.model, answer.usage, cost, now, self._warnings(answer))
        cost = at_most(self.ask.clearance.most, "the provider did not say what it took")
        return self._record(answer.model, self._estimated(len(answer.text)), cost, now, self._warnings(answer))

    def failed(self, failure: ModelFailure, now: datetime) -> Record:
        """A complete answer was paid for even if it is useless; of a broken one we know only what arrived, and what it can
        have cost at most; what was not sent, or refused, was not paid."""
        if self.answer is not None:
            return self.completed(self.answer, now)
        if not self._may_have_worked(failure.kind):
            return self._record(self.choice.model, Usage(), UNPAID, now, ())
        cost = at_most(self.ask.clearance.most, "the answer was cut off, and with it what it cost")
        warning = "tokens are estimated from what was sent and received"
        return self._record(self.choice.model, self._estimated(self.received), cost, now, (warning,))

    def _may_have_worked(self, kind: FailureKind) -> bool:
        """Also when the connection broke before the first token: the model may have been thinking, at our expense."""
        return self.ask.clearance.sent and (self.received > 0 or kind in SENT)

    def _estimated(self, characters: int) -> Usage:
        return Usage(estimated_tokens(self.ask.prompt.size), estimated_tokens(characters), estimated=True)

    def _warnings(self, answer: Answer) -> tuple[str, ...]:
        found = {
            "simulated by the demo provider: no model was called": self.provider.simulated,
            "the provider reported no usage; tokens are estimated": answer.usage is None,
            f"cut off at {self.ask.max_tokens} tokens": answer.finish == "length",
        }
        return tuple(warning for warning, applies in found.items() if applies)

    def _record(self, model: str, usage: Usage, cost: Cost, now: datetime, warnings: tuple[str, ...]) -> Record:
        return Record(
            choice=self.choice,
            model_used=clean(model) or self.choice.model,
            started_at=self.started_at,
            ended_at=now,
            latency_ms=round((time.perf_counter() - self.started) * 1000),
            usage=usage,
            cost=cost,
            simulated=self.provider.simulated,
            warnings=warnings,
        )
