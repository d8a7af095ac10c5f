"""The purse of services that own no budgets: they reserve and settle with the executor, over the bus."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from uuid import UUID, uuid4

from chassis.bus import Bus
from chassis.context import Context
from chassis.llm.spending import Estimate, OverBudget, Settlements
from contracts.budgets import Payer, ReserveSpend, SettleSpend, Shortage
from contracts.errors import Code, Rejection, RetryLater

MOST_OF_A_NOTE = 1_000  # characters


class RemotePurses:
    """One per process."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._settlements = Settlements(RetryLater)

    def of(self, company: str, payer: Payer, context: Context) -> RemotePurse:
        return RemotePurse(self._bus, self._settlements, company, payer, context)

    async def drain(self) -> None:
        await self._settlements.drain()


class RemotePurse:
    """Raises RetryLater while the executor is away: a ceiling that cannot be asked about lets nothing through."""

    def __init__(self, bus: Bus, settlements: Settlements, company: str, payer: Payer, context: Context) -> None:
        self._bus = bus
        self._settlements = settlements
        self._company = company
        self._payer = payer
        self._context = context

    async def reserve(self, estimate: Estimate) -> UUID | None:
        request = ReserveSpend(
            company=self._company,
            command_id=uuid4(),
            payer=self._payer,
            amount_usd=estimate.cost.amount,
            model=str(estimate.choice),
            note=estimate.cost.note[:MOST_OF_A_NOTE],
            for_s=estimate.lasts,
        )
        try:
            return (await self._bus.ask(request, self._context)).reservation
        except (RetryLater, asyncio.CancelledError):  # it may have been made all the same
            self.settle(request.command_id, Decimal(0))
            raise
        except Rejection as refusal:
            if refusal.failure.code is not Code.OVER_BUDGET:
                raise
            raise OverBudget(Shortage.model_validate(refusal.failure.details)) from None

    def settle(self, reservation: UUID, amount: Decimal | None) -> asyncio.Task[None]:
        request = SettleSpend(company=self._company, reservation=reservation, amount_usd=amount)
        return self._settlements.begin(lambda: self._bus.ask(request, self._context))
