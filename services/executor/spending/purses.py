"""The executor's own purse: a node's calls are reserved and settled in its database, without a way over the bus."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID, uuid4

import structlog

from chassis.context import Context
from chassis.llm.spending import Estimate, OverBudget, Settlements
from chassis.postgres import CONNECTION_LOST, server_is_away
from services.executor.domain.budget import Account
from services.executor.spending.till import Call, Caller, Short, Till

log = structlog.get_logger(__name__)

AWAY_SECONDS = 0.3  # between looks whether the database is back


@dataclass(frozen=True, slots=True)
class Attempt:
    """Who calls, and the budgets that were in force when the attempt began."""

    company: str
    accounts: Sequence[Account]
    run_id: UUID
    node_id: UUID
    number: int
    context: Context


class Purses:
    """One per process; `worker` names its incarnation at the moment."""

    def __init__(self, till: Till, worker: Callable[[], UUID]) -> None:
        self._till = till
        self._worker = worker
        self._settlements = Settlements()

    def of(self, attempt: Attempt) -> LocalPurse | None:
        """None where no budget is in force: then a call takes not one statement more."""
        return LocalPurse(self._till, self._settlements, attempt, self._worker()) if attempt.accounts else None

    async def drain(self) -> None:
        await self._settlements.drain()


class LocalPurse:
    def __init__(self, till: Till, settlements: Settlements, attempt: Attempt, worker: UUID) -> None:
        self._till = till
        self._settlements = settlements
        self._attempt = attempt
        self._worker = worker

    async def reserve(self, estimate: Estimate) -> UUID | None:
        """That the database is away is no failure of the node: it is waited for."""
        while True:
            id = uuid4()
            try:
                return id if await self._reserve(id, estimate) else None
            except (*CONNECTION_LOST, asyncio.CancelledError) as error:
                self.settle(id, Decimal(0))  # it may have been committed all the same
                if not isinstance(error, TimeoutError) and not server_is_away(error):
                    raise
                log.warning("spending.waits", error=str(error) or repr(error))
                await asyncio.sleep(AWAY_SECONDS)

    async def _reserve(self, id: UUID, estimate: Estimate) -> bool:
        own = self._attempt
        call = Call(estimate.cost.amount, str(estimate.choice), estimate.cost.note, estimate.lasts)
        caller = Caller(self._worker, own.run_id, own.node_id, own.number)
        try:
            return await self._till.reserve(id, own.company, own.accounts, call, own.context, caller)
        except Short as short:
            raise OverBudget(short.shortage) from None

    def settle(self, reservation: UUID, amount: Decimal | None) -> asyncio.Task[None]:
        return self._settlements.begin(lambda: self._till.settle(reservation, amount))
