"""The values of a model call: what is asked, what comes back, what it cost, and how it fails. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Generic, Literal, TypeVar

from contracts.errors import FluidcrewError

T = TypeVar("T")

FailureKind = Literal[
    "rate_limited",  # 429: wait `retry_after`
    "quota_exceeded",  # the account is out of money; waiting does not help
    "server_error",  # 5xx
    "timeout",  # of first token, next token or the whole answer
    "connection",  # could not connect (in time), or the connection broke
    "refused",  # the provider says the request is wrong (4xx)
    "unauthorized",  # 401, 403
    "filtered",  # the provider's content filter
    "malformed",  # an answer that is not what was asked for: `raw` and `problems` tell
    "unknown_provider",
    "not_configured",
    "canceled",  # by whoever asked, before the answer was complete
    "over_budget",  # it was not made: a budget does not bear what it may cost
]
RETRIABLE: frozenset[FailureKind] = frozenset({"rate_limited", "server_error", "timeout", "connection", "malformed"})


@dataclass(frozen=True, slots=True)
class ModelChoice:
    provider: str
    model: str

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}"


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool the model may ask for. Who runs it is the caller's business."""

    name: str
    description: str
    parameters: Mapping[str, Any]  # JSON Schema of an object


@dataclass(frozen=True, slots=True)
class ToolCall:
    """`problem` says why the arguments could not be read; they are empty then."""

    id: str
    name: str
    arguments: Mapping[str, Any]
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ToolRound:
    """What the model asked for in an earlier answer, and the result of each call."""

    text: str
    calls: tuple[ToolCall, ...]
    results: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Prompt:
    """`rounds` are earlier answers to this same prompt that asked for tools, with what the tools said."""

    system: str
    user: str
    rounds: tuple[ToolRound, ...] = ()

    @property
    def size(self) -> int:
        turns = (len(r.text) + sum(map(len, r.results)) for r in self.rounds)
        return len(self.system) + len(self.user) + sum(turns)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens. `estimated` when the provider did not say and we counted four characters to a token."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated: bool = False
    cached_tokens: int = 0  # of prompt_tokens; the provider charged less for them

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Cost:
    """US dollars; `amount` None means that the price is not known, which is not 0. `estimated`: nobody can tell what it was,
    and `amount` is the most that it can have been."""

    amount: Decimal | None
    note: str = ""
    estimated: bool = False

    @property
    def known(self) -> bool:
        return self.amount is not None


UNPAID = Cost(Decimal(0), "no answer was produced")


@dataclass(frozen=True, slots=True)
class Record:
    """When a call happened, with what, and what it took: of an answer as of a failure."""

    choice: ModelChoice  # as requested
    model_used: str
    started_at: datetime
    ended_at: datetime
    latency_ms: int
    usage: Usage = Usage()
    cost: Cost = UNPAID
    simulated: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion(Generic[T]):
    """An answer. `output` is set when a type was asked for, `tool_calls` when the model wants tools first; `cut_off` when
    it would have gone on, had the limit of tokens let it."""

    text: str
    record: Record
    output: T | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    cut_off: bool = False

    @property
    def usage(self) -> Usage:
        return self.record.usage

    @property
    def cost(self) -> Cost:
        return self.record.cost

    @property
    def choice(self) -> ModelChoice:
        return self.record.choice

    @property
    def model_used(self) -> str:
        return self.record.model_used

    @property
    def started_at(self) -> datetime:
        return self.record.started_at

    @property
    def ended_at(self) -> datetime:
        return self.record.ended_at

    @property
    def latency_ms(self) -> int:
        return self.record.latency_ms

    @property
    def warnings(self) -> tuple[str, ...]:
        return self.record.warnings


class ModelFailure(FluidcrewError):
    """A model call that did not succeed. The message says what to do; `record` is None when nothing was sent."""

    def __init__(
        self,
        kind: FailureKind,
        message: str,
        *,
        retry_after: float | None = None,
        status: int | None = None,
        raw: str = "",
        problems: tuple[str, ...] = (),
        at_work: bool = False,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.retry_after = retry_after  # seconds, as the provider named them
        self.status = status  # HTTP
        self.raw = raw  # the malformed answer
        self.problems = problems  # what is wrong with it, for a repair round
        self.at_work = at_work  # the model was answering all the time: it was our patience that ended
        self.record: Record | None = None

    @property
    def retriable(self) -> bool:
        return self.kind in RETRIABLE

    @property
    def started_at(self) -> datetime | None:
        return self.record.started_at if self.record else None

    @property
    def ended_at(self) -> datetime | None:
        return self.record.ended_at if self.record else None

    @property
    def usage(self) -> Usage:
        return self.record.usage if self.record else Usage()


def estimated_tokens(characters: int) -> int:
    return -(-characters // 4)
