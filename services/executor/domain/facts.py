"""What can happen to a run: the facts that its owner applies, and the values they carry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol

from contracts.budgets import Shortage
from contracts.executor import ControlMode, RunAction, Usage
from contracts.refs import BlobRef
from contracts.run_control import NodeAction
from contracts.verdict import Verdict


class Row(Protocol):
    """What was read of a node or an attempt."""

    def __getitem__(self, column: str, /) -> Any: ...


#: the columns of nodes and attempts, in the order of the fields of a Spend
SPENT = ("prompt_tokens", "completion_tokens", "requests", "cost_usd", "estimated_calls", "unpriced_calls")


@dataclass(frozen=True, slots=True)
class Spend:
    """Tokens, model calls and US dollars. Of `estimated` calls `cost` has the most that they can have cost; `unpriced` ones
    are not in it."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    requests: int = 0
    cost: Decimal = Decimal(0)
    estimated: int = 0
    unpriced: int = 0

    @classmethod
    def of(cls, row: Row) -> Spend:
        """`cost_usd` is null where an executor of an older release has met a price that it did not know."""
        prompt, completion, requests, cost, *counts = (row[column] for column in SPENT)
        return cls(prompt, completion, requests, cost or Decimal(0), *counts)

    @classmethod
    def told(cls, usage: Usage) -> Spend:
        """As others count it."""
        unpriced = usage.unpriced_calls or (usage.requests if usage.cost_usd is None else 0)
        tokens, cost = (usage.prompt_tokens, usage.completion_tokens), Decimal(usage.cost_usd or 0)
        return cls(*tokens, usage.requests, cost, usage.estimated_calls, unpriced)

    def __add__(self, other: Spend) -> Spend:
        return Spend(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.requests + other.requests,
            self.cost + other.cost,
            self.estimated + other.estimated,
            self.unpriced + other.unpriced,
        )

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def usage(self) -> Usage:
        if self is NOTHING:
            return NO_USAGE
        return Usage(
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            requests=self.requests,
            cost_usd=known(self.cost, self.unpriced),
            estimated_calls=self.estimated,
            unpriced_calls=self.unpriced,
        )


NOTHING = Spend()
NO_USAGE = Usage(cost_usd="0")


def known(cost: Decimal | None, unpriced: int) -> str | None:
    """None when nothing is known of it: that is not 0."""
    return money(cost) if cost or not unpriced else None


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
    """What an attempt took, without what others may have bought for it while it used their tools."""

    spend: Spend = NOTHING
    duration_ms: int = 0
    model: str | None = None
    requested: str | None = None  # provider/model that the node asked for; a fallback may have done it
    used_tools: bool = False


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
    """`warnings` say what a reader of the result should know about it."""

    key: str
    attempt: int
    output: Output | None = None
    effort: Effort = NO_EFFORT
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """`jitter` in [0, 1) spreads the retries. `weather`: the model is not to be had, whoever asks; `excuse_ends`: but
    that is no excuse for ever."""

    key: str
    attempt: int
    error: str
    jitter: float
    retriable: bool = True
    weather: bool = False
    excuse_ends: bool = False
    retry_after: float | None = None
    effort: Effort = NO_EFFORT


@dataclass(frozen=True, slots=True)
class Parked:
    """A ready node's model is not to be had before `until`, nor what may stand in for it."""

    key: str
    provider: str
    model: str
    until: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Unfunded:
    """A budget did not bear an attempt's next call, which was not made."""

    key: str
    attempt: int
    shortage: Shortage
    effort: Effort = NO_EFFORT


@dataclass(frozen=True, slots=True)
class Funded:
    """There is room again for the calls of nodes that wait for money, or was when this was noted."""

    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WeatherChanged:
    """Whoever is parked is looked at again."""


@dataclass(frozen=True, slots=True)
class TimeIsUp:
    """The run's deadline may have passed."""


@dataclass(frozen=True, slots=True)
class HandedBack:
    """The owner stops and gives the run away; what it had running starts over elsewhere."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What a call took that was cut off after its attempt had ended. It is stored already."""

    spend: Spend


@dataclass(frozen=True, slots=True)
class Asked:
    """Somebody's order to a run, legal when it was given."""

    action: RunAction
    mode: ControlMode = ControlMode.FINISH
    by: str | None = None


@dataclass(frozen=True, slots=True)
class Steered:
    """Somebody's order to one node. `prompt` and `params` come with an override; None leaves them as they are."""

    key: str
    action: NodeAction
    mode: ControlMode = ControlMode.FINISH
    prompt: str | None = None
    params: Mapping[str, Any] | None = None
    by: str | None = None


@dataclass(frozen=True, slots=True)
class Rerun:
    """Somebody's order for another attempt, which is told the critique in force and `instructions`. `prompt` replaces what
    the node is told; None leaves it, and its model, as they are. `critique` is a person's word on the attempt
    `of_attempt`, whose verdict may still be on its way."""

    key: str
    instructions: str | None = None
    prompt: str | None = None
    llm_backend: str | None = None
    llm_model: str | None = None
    keep_descendants: bool = False
    by: str | None = None
    critique: str | None = None
    of_attempt: int | None = None

    def replaces(self) -> list[str]:
        return [name for name in ("prompt", "llm_backend", "llm_model") if getattr(self, name) is not None]


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict on a node's result came in."""

    key: str
    verdict: Verdict


Fact = (
    Claimed
    | Started
    | Succeeded
    | Failed
    | Unfunded
    | Funded
    | Parked
    | WeatherChanged
    | TimeIsUp
    | HandedBack
    | Spent
    | Asked
    | Steered
    | Rerun
    | Judged
)
