"""The account of one call while it happens: what was received so far, and from it the record of success or failure."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime

from chassis.llm.call import UNPAID, Cost, FailureKind, ModelChoice, ModelFailure, Record, Usage, estimated_tokens
from chassis.llm.provider import Answer, Ask, Provider
from chassis.llm.text import clean

#: failures that say nothing about whether the model was already at work
SENT: frozenset[FailureKind] = frozenset({"timeout", "connection", "malformed", "filtered"})


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
        usage = answer.usage or self._estimated(len(answer.text))
        return self._record(answer.model, usage, self.provider.price(answer.model, usage), now, self._warnings(answer))

    def failed(self, failure: ModelFailure, now: datetime) -> Record:
        """A complete answer was paid for even if it is useless; of a broken one we know only what arrived; what was not
        sent was not paid."""
        if self.answer is not None:
            return self.completed(self.answer, now)
        if not self._was_at_work(failure.kind):
            return self._record(self.choice.model, Usage(), UNPAID, now, ())
        cost = Cost(None, "the answer was cut off, and with it what it cost")
        warning = "tokens are estimated from what was sent and received"
        return self._record(self.choice.model, self._estimated(self.received), cost, now, (warning,))

    def _was_at_work(self, kind: FailureKind) -> bool:
        if not self.ask.clearance.sent or kind not in SENT:
            return False
        return bool(self.received) or kind not in ("connection", "malformed")

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
