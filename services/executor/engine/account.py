"""What an attempt has taken so far: each call to a model with its sidecar, also the one that is cut off."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import structlog

from chassis import telemetry
from chassis.llm.call import Completion, ModelChoice, ModelFailure, Prompt, Record, Usage, estimated_tokens
from chassis.llm.departure import Clearance
from chassis.llm.exchange import at_most
from chassis.llm.sidecar import invalid
from chassis.llm.text import clean
from services.executor.domain.facts import NO_EFFORT, NOTHING, Effort, Spend
from services.executor.engine.weather.ticket import Ticket

log = structlog.get_logger(__name__)

Call = Completion[Any] | ModelFailure
Sidecar = dict[str, Any]


@dataclass(slots=True)
class _UnderWay:
    """A request that is to leave, or has left, and what has come back of its answer."""

    choice: ModelChoice
    prompt: Prompt
    clearance: Clearance
    at: datetime
    clock: float
    heard: int = 0  # characters

    def cut_off(self) -> ModelFailure:
        """As the model layer would tell it, had it not been the one that was canceled: perhaps while it settled the call."""
        unknown = "the call was canceled, and with it the account of what it cost"
        failure = ModelFailure("canceled", "the call was canceled before its answer was complete")
        failure.record = Record(
            choice=self.choice,
            model_used=self.choice.model,
            started_at=self.at,
            ended_at=datetime.now(UTC),
            latency_ms=round((time.perf_counter() - self.clock) * 1000),
            usage=Usage(estimated_tokens(self.prompt.size), estimated_tokens(self.heard), estimated=True),
            cost=self.clearance.came_to or at_most(self.clearance.most, unknown),
            warnings=("tokens are estimated from what was sent and received",),
        )
        return failure


class Account:
    """`write` makes the sidecar of a call, by its number from 1."""

    def __init__(self, write: Callable[[Call, Prompt, int], Sidecar]) -> None:
        self._write = write
        self._records: list[Record] = []
        self._under_way: _UnderWay | None = None
        self.sidecars: list[Sidecar] = []  # in the order of the calls
        self.ticket: Ticket | None = None  # what the attempt got to call
        self.used_tools = False

    def leaving(self, choice: ModelChoice, prompt: Prompt, clearance: Clearance) -> None:
        self._under_way = _UnderWay(choice, prompt, clearance, datetime.now(UTC), time.perf_counter())

    def heard(self, piece: str) -> None:
        if self._under_way is not None:
            self._under_way.heard += len(piece)

    def ended(self, call: Call, prompt: Prompt) -> None:
        self._under_way = None
        if call.record is not None:
            self._records.append(call.record)
            self.sidecars.append(self._sidecar(call, prompt))

    def _sidecar(self, call: Call, prompt: Prompt) -> Sidecar:
        """Whatever is wrong with the account of a call, its result is paid for and must not be lost with it."""
        try:
            return self._write(call, prompt, len(self._records))
        except Exception as error:
            log.exception("sidecar.broke")
            telemetry.report(error)
            return {"metadata": invalid([clean(f"it could not be written: {error!r}")])}

    def cut_off(self) -> None:
        """Whoever cancels a call that has left pays for it all the same."""
        if (call := self._under_way) is not None and call.clearance.sent:
            self.ended(call.cut_off(), call.prompt)

    def effort(self) -> Effort:
        if not self._records:
            return NO_EFFORT
        spend = sum((_spend(record) for record in self._records), start=NOTHING)
        taken, used = sum(record.latency_ms for record in self._records), self._records[-1].model_used
        return Effort(spend, taken, used, str(self.ticket.requested) if self.ticket else None, self.used_tools)


def _spend(record: Record) -> Spend:
    cost, tokens = record.cost, record.usage
    return Spend(
        tokens.prompt_tokens, tokens.completion_tokens, 1, cost.amount or Decimal(0), cost.estimated, not cost.known
    )
