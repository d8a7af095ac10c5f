"""Who pays for a call: the port through which the most that it can cost is reserved before it leaves, and settled after."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from types import TracebackType
from typing import Any, Protocol, Self
from uuid import UUID

import structlog

from chassis.llm.call import Cost, ModelChoice, ModelFailure, Usage
from chassis.llm.departure import Clearance
from chassis.llm.provider import Ask, Provider
from contracts.budgets import Shortage

log = structlog.get_logger(__name__)

TOKENS_PER_MESSAGE = 16  # what providers put around each
TOKENS_FOR_TOOLS = 1_000  # and what they tell a model about using them
SLACK_SECONDS = 60.0  # beyond a call's own time, before a reservation is nobody's
SETTLING_SECONDS = 2.0  # that a call waits for its settlement
AGAIN_SECONDS, LONGEST_PAUSE = 0.5, 30.0  # between tries to settle


@dataclass(frozen=True, slots=True)
class Estimate:
    """The most that a call can cost, and the seconds after which it has surely ended."""

    choice: ModelChoice
    cost: Cost
    lasts: float


class OverBudget(ModelFailure):
    """The call was not made."""

    def __init__(self, shortage: Shortage) -> None:
        super().__init__("over_budget", shortage.said())
        self.shortage = shortage


class Purse(Protocol):
    """Pays for the calls of one payer."""

    async def reserve(self, estimate: Estimate) -> UUID | None:
        """None: nothing is to be settled. Raises OverBudget."""

    def settle(self, reservation: UUID, amount: Decimal | None) -> asyncio.Future[None]:
        """Begins at once, and is done whether or not somebody waits. None charges in full."""


def estimate(choice: ModelChoice, ask: Ask, provider: Provider, timeout: float) -> Estimate:
    return Estimate(choice, provider.price(ask.model, most_tokens(ask)), timeout + SLACK_SECONDS)


def most_tokens(ask: Ask) -> Usage:
    """A bound, not a guess: no tokenizer makes more tokens of a text than it has bytes."""
    prompt, count = ask.prompt, 2
    texts = [prompt.system, prompt.user]
    for past in prompt.rounds:
        texts += [past.text, *past.results, *(f"{c.id} {c.name} {_json(c.arguments)}" for c in past.calls)]
        count += 1 + 2 * len(past.calls)
    texts += [f"{t.name} {t.description} {_json(t.parameters)}" for t in ask.tools]
    texts += [f"{ask.schema.name} {_json(ask.schema.schema)}"] if ask.schema else []
    framing = TOKENS_PER_MESSAGE * count + (TOKENS_FOR_TOOLS if ask.tools or ask.schema else 0)
    return Usage(prompt_tokens=_bytes(texts) + framing, completion_tokens=ask.max_tokens)


def _json(value: Any) -> str:
    return json.dumps(value, default=str)


def _bytes(texts: Iterable[str]) -> int:
    return sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)


class Payment:
    """Of one call: `async with` it, and say what the call came to. What nobody can say is charged in full."""

    def __init__(self, purse: Purse | None, estimate: Estimate, clearance: Clearance, *, if_free: bool = False) -> None:
        """`if_free`: what costs nothing is accounted for as well."""
        self._purse = purse
        self._estimate = estimate
        self._clearance = clearance
        self._if_free = if_free
        self._reservation: UUID | None = None

    def came_to(self, cost: Cost) -> None:
        self._clearance.came_to = cost

    async def __aenter__(self) -> Self:
        is_wanted = self._if_free or self._estimate.cost.amount != 0  # what costs nothing needs no budget
        if self._purse is not None and is_wanted:
            self._reservation = await self._purse.reserve(self._estimate)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._purse is None or self._reservation is None:
            return
        settling = self._purse.settle(self._reservation, self._amount())
        if not isinstance(error, asyncio.CancelledError):  # whoever was canceled must not be held up
            await asyncio.wait({settling}, timeout=SETTLING_SECONDS)

    def _amount(self) -> Decimal | None:
        if self._clearance.came_to is not None:
            return self._clearance.came_to.amount
        return None if self._clearance.sent else Decimal(0)


class Settlements:
    """Those under way: each is tried until it is done, whatever stops it, for what a call came to must not be forgotten."""

    def __init__(self) -> None:
        self._open: set[asyncio.Task[None]] = set()

    def begin(self, settle: Callable[[], Awaitable[object]]) -> asyncio.Task[None]:
        task = asyncio.create_task(self._until_done(settle))
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        return task

    async def drain(self) -> None:
        """What is not settled by then is charged in full by whoever finds it."""
        if self._open:
            await asyncio.wait(set(self._open), timeout=5.0)

    async def _until_done(self, settle: Callable[[], Awaitable[object]]) -> None:
        pause = AGAIN_SECONDS
        while True:
            try:
                await settle()
                return
            except Exception:  # a bug there would else leave the reservation to be charged in full
                log.warning("spending.settles_later", retry_in=pause, exc_info=True)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
