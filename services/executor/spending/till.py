"""Where money is reserved and given back: every budget of a payer bears a call, or the call is not made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from chassis.context import Context
from chassis.postgres import Connection
from chassis.unit_of_work import UnitOfWork
from contracts.budgets import BudgetExhausted, Purchase, Shortage, Took
from contracts.errors import Code, FluidcrewError, Rejection
from contracts.tool import ToolContext
from services.executor.domain.budget import Account
from services.executor.domain.facts import money
from services.executor.spending import store


class Call(NamedTuple):
    """What is to be reserved. `amount` None: no price is known, and `note` says what to do about it. `lasts` in seconds."""

    amount: Decimal | None
    model: str
    note: str
    lasts: float


@dataclass(frozen=True, slots=True)
class Caller:
    """Of a node's call: who makes it, for what."""

    worker: UUID
    run_id: UUID
    node_id: UUID
    attempt: int


class Short(FluidcrewError):
    """A budget does not bear the call; whatever was reserved for it in others must be rolled back."""

    def __init__(self, account: Account, need: Decimal | None, shortage: Shortage) -> None:
        super().__init__(shortage.said())
        self.account = account
        self.need = need
        self.shortage = shortage


class Till:
    """`on_room` is called when a settlement has made room that somebody may wait for."""

    def __init__(self, uow: UnitOfWork) -> None:
        self._uow = uow
        self.on_room: Callable[[], None] = lambda: None

    async def reserve(
        self, id: UUID, company: str, accounts: Sequence[Account], call: Call, context: Context, caller: Caller
    ) -> bool:
        """Whether there is anything to settle. Raises Short."""
        try:
            async with self._uow.begin(context) as tx:
                return await reserve(tx.conn, id, company, accounts, call, caller)
        except Short as short:
            await self.tell(company, short, context, caller)
            raise

    async def tell(
        self, company: str, short: Short, context: Context, caller: Caller | ToolContext | None = None
    ) -> None:
        """People hear of it once for each limit, not once for each call."""
        async with self._uow.begin(context) as tx:
            if (budget := await store.note_exhaustion(tx.conn, company, short.account, short.need)) is not None:
                tx.publish(
                    BudgetExhausted(
                        company=company,
                        budget_id=budget.id,
                        **budget.told(),
                        need_usd=short.shortage.need_usd,
                        model=short.shortage.model,
                        run_id=caller.run_id if caller else None,
                        node_id=caller.node_id if caller else None,
                    )
                )

    async def settle(self, reservation: UUID, amount: Decimal | None, took: Took | None = None) -> bool:
        """Once; None charges all that was reserved. `took` is for a purchase. False when it was settled before."""
        async with self._uow.begin() as tx:
            awaited = await store.settle(tx.conn, reservation, amount, took)
        if awaited:
            self.on_room()
        return awaited is not None


async def reserve(
    connection: Connection,
    id: UUID,
    company: str,
    accounts: Sequence[Account],
    call: Call,
    caller: Caller | None = None,
    purchase: Purchase | None = None,
) -> bool:
    """In the caller's transaction, which must be rolled back on Short, and on the Rejection of what was settled before."""
    taken: list[UUID] = []
    await store.hold_off_new_budgets(connection)
    for account in accounts if call.amount != 0 else ():  # what costs nothing needs no budget
        found = None if call.amount is None else await store.take(connection, company, account, call.amount)
        if found is not None:
            taken.append(found)
        elif (budget := await store.budget(connection, company, account)) is not None:
            raise Short(account, call.amount, _shortage(budget, call))
    if not taken and purchase is None:
        return False
    most = call.amount or Decimal(0)
    about = (None, caller.worker, caller.node_id, caller.attempt) if caller else (accounts,)
    if not await store.note_reservation(connection, id, company, taken, most, call.lasts, *about, purchase=purchase):
        raise Rejection(Code.ILLEGAL_STATE, "this reservation was settled before it could be made; make another one")
    return True


def _shortage(budget: store.Row, call: Call) -> Shortage:
    note = call.note if call.amount is None else ""
    return Shortage(**budget.told(), need_usd=money(call.amount), model=call.model, note=note)
