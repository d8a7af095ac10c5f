"""What can happen to a run: the facts that its owner applies, and the values they carry."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from contracts.executor import RunAction, Usage
from contracts.refs import BlobRef


@dataclass(frozen=True, slots=True)
class Spend:
    """Tokens, model calls and US dollars. `cost` is None as soon as one price is unknown."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    requests: int = 0
    cost: Decimal | None = Decimal(0)

    def __add__(self, other: Spend) -> Spend:
        known = self.cost is not None and other.cost is not None
        return Spend(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.requests + other.requests,
            self.cost + other.cost if known else None,  # type: ignore[operator]
        )

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def usage(self) -> Usage:
        return Usage(
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            requests=self.requests,
            cost_usd=money(self.cost),
        )


NOTHING = Spend()


def money(cost: Decimal | None) -> str | None:
    return None if cost is None else format(cost.normalize() + 0, "f")


@dataclass(frozen=True, slots=True)
class Output:
    """What a node produced: inline as `text`, or, when it is large, its opening as `text` and all of it behind `ref`."""

    text: str
    ref: BlobRef | None
    size: int  # bytes
    checksum: str  # sha256 of the whole


@dataclass(frozen=True, slots=True)
class Effort:
    """What an attempt took."""

    spend: Spend = NOTHING
    duration_ms: int = 0
    model: str | None = None


NO_EFFORT = Effort()


@dataclass(frozen=True, slots=True)
class Claimed:
    """An executor took the run. Whatever its former owner had running is lost."""


@dataclass(frozen=True, slots=True)
class Started:
    """A ready node got a slot."""

    key: str


@dataclass(frozen=True, slots=True)
class Succeeded:
    key: str
    attempt: int
    output: Output | None = None
    effort: Effort = NO_EFFORT


@dataclass(frozen=True, slots=True)
class Failed:
    """`jitter` in [0, 1) spreads the retries."""

    key: str
    attempt: int
    error: str
    jitter: float
    retriable: bool = True
    rate_limited: bool = False
    retry_after: float | None = None
    effort: Effort = NO_EFFORT


@dataclass(frozen=True, slots=True)
class TimeIsUp:
    """The run's deadline may have passed."""


@dataclass(frozen=True, slots=True)
class HandedBack:
    """The owner stops and gives the run away; what it had running starts over elsewhere."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Somebody's order, legal when it was given."""

    action: RunAction


Fact = Claimed | Started | Succeeded | Failed | TimeIsUp | HandedBack | Asked
