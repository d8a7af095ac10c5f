"""Calls for vectors are paid: the most that one can cost is reserved before it leaves, then settled and noted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Protocol
from uuid import uuid4

from chassis.context import Context
from chassis.llm.call import UNPAID, Cost, ModelChoice, Usage, estimated_tokens
from chassis.llm.departure import Clearance
from chassis.llm.exchange import at_most
from chassis.llm.settings import Price, without_credentials
from chassis.llm.spending import SLACK_SECONDS, Estimate, OverBudget, Payment, Purse, Settlements
from contracts.budgets import Payer, Purchase, Took
from contracts.errors import Rejection
from contracts.knowledge import Embedder
from contracts.tool import ToolContext
from services.rag.adapters.accounts import CUT_OFF, purchase_of, took
from services.rag.domain.questions import NoVectors
from services.rag.domain.spending import Buyer, EmbeddingCall, most_tokens, tokens_said

Note = Callable[[EmbeddingCall], Awaitable[None]]
Priced = Callable[[Usage], Cost]
CostOf = Callable[[str, str, str, Usage, Mapping[str, Price]], Cost]
UNSAID = "the provider did not say what it took"


class BookingPurse(Purse, Protocol):
    """`took` is what an attempt's books are told with the settlement."""

    took: Took | None


class Purses(Protocol):
    def of(self, company: str, payer: Payer, context: Context, purchase: Purchase | None) -> BookingPurse: ...


class Bill:
    """Of one call. Who makes it lets `clearance` see it leave, and says what came back."""

    def __init__(self, priced: Priced, texts: Sequence[str]) -> None:
        self._priced = priced
        self._texts = texts
        self._tokens: int | None = None
        self._refused = False
        self._answered = False
        self.clearance = Clearance(most=priced(Usage(most_tokens(texts))))

    def refused(self) -> None:
        """With a status: that costs nothing."""
        self._refused = True

    def says(self, usage: object) -> None:
        self._tokens, self._answered = tokens_said(usage), True

    @property
    def left(self) -> bool:
        return self.clearance.sent and not self._refused

    @property
    def tokens(self) -> int:
        return estimated_tokens(sum(map(len, self._texts))) if self._tokens is None else self._tokens

    @property
    def is_estimated(self) -> bool:
        return self._tokens is None

    def told(self, place: ToolContext, embedder: Embedder, latency_ms: int) -> Took:
        usage, trouble = Usage(self.tokens, estimated=self.is_estimated), None if self._answered else CUT_OFF
        return took(place, embedder, self._texts, usage, self.cost(), latency_ms, trouble)

    def cost(self) -> Cost:
        if not self.left:
            return UNPAID
        return at_most(self.clearance.most, UNSAID) if self._tokens is None else self._priced(Usage(self._tokens))


class Cashier:
    """One per process. `note` is tried until it is done, for what a call took must not be forgotten."""

    def __init__(self, purses: Purses, prices: Mapping[str, Price], note: Note) -> None:
        self._purses = purses
        self._prices = prices
        self._note = note
        self._notes = Settlements()
        self._cost_of: CostOf | None = None

    @asynccontextmanager
    async def paid(
        self, embedder: Embedder, url: str, texts: Sequence[str], buyer: Buyer, timeout: float
    ) -> AsyncIterator[Bill]:
        """Raises NoVectors when a budget does not bear it, or RetryLater while nobody can say whether it does."""
        bill = Bill(await self._priced(embedder, url), texts)
        choice = ModelChoice(embedder.provider, embedder.model)
        worst = Estimate(choice, bill.clearance.most, timeout + SLACK_SECONDS)
        place = buyer.place
        purchase = purchase_of(place, embedder, texts, bill.clearance.most) if place else None
        purse = self._purses.of(buyer.company, buyer.payer, Context(), purchase)
        payment = Payment(purse, worst, bill.clearance, if_free=place is not None)
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(payment)
            except (OverBudget, Rejection) as refusal:
                raise NoVectors(str(refusal)) from None
            began = time.perf_counter()
            try:
                yield bill
            finally:
                payment.came_to(bill.cost())
                if bill.left:
                    latency_ms = round((time.perf_counter() - began) * 1000)
                    self._write_down(bill, embedder, len(texts), buyer, latency_ms)
                    purse.took = bill.told(place, embedder, latency_ms) if place else None

    async def _priced(self, embedder: Embedder, url: str) -> Priced:
        if self._cost_of is None:
            self._cost_of = await asyncio.to_thread(_price_list)
        cost_of = self._cost_of
        endpoint = without_credentials(url)
        return lambda usage: cost_of(embedder.provider, endpoint, embedder.model, usage, self._prices)

    def _write_down(self, bill: Bill, embedder: Embedder, texts: int, buyer: Buyer, latency_ms: int) -> None:
        came_to = (bill.tokens, bill.cost().amount, bill.is_estimated, latency_ms)
        call = EmbeddingCall(uuid4(), buyer, embedder, texts, *came_to)
        self._notes.begin(lambda: self._note(call))

    async def drain(self) -> None:
        await self._notes.drain()


def _price_list() -> CostOf:
    """Slow to import the first time."""
    from chassis.llm.prices import cost_of

    return cost_of
