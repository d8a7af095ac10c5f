"""Answers about budgets: people set and remove them, other services reserve and settle under them."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from chassis.context import Context
from chassis.postgres import Pool
from chassis.unit_of_work import UnitOfWork
from contracts.budgets import (
    Budget,
    BudgetGone,
    BudgetRemoved,
    BudgetSet,
    ListBudgets,
    RemoveBudget,
    Reserved,
    ReserveSpend,
    SetBudget,
    Settled,
    SettleSpend,
)
from contracts.errors import Code, Rejection
from contracts.page import Page
from contracts.scope import Scope
from services.executor.domain.budget import Account
from services.executor.spending import store
from services.executor.spending.beginning import store as beginning
from services.executor.spending.till import Call, Short, Till, reserve
from services.executor.spending.waits import store as waits


class Budgets:
    """`on_change` is called when what waits may go on."""

    def __init__(self, uow: UnitOfWork, pool: Pool, till: Till, on_change: Callable[[], None]) -> None:
        self._uow = uow
        self._pool = pool
        self._till = till
        self._on_change = on_change

    async def list_budgets(self, request: ListBudgets, _: Context) -> Page[Budget]:
        items, total = await store.list_budgets(self._pool, request)
        return Page(items=items, total=total)

    async def set_budget(self, request: SetBudget, context: Context) -> Budget:
        """Raises Rejection(invalid), or RetryLater."""
        account = _account(request)
        terms = (request.company, account, request.limit_usd, request.by)
        async with self._uow.order(request, context) as tx:
            row = await store.set_limit(tx.conn, *terms) or await beginning.begin(tx.conn, *terms)
            await waits.look_at_prices_again(tx.conn, (request.company, account))
            tx.publish(BudgetSet(company=request.company, budget_id=row.id, **row.told(), by=request.by))
            tx.after_commit(self._changed)
            return tx.answer(await store.shown_of(tx.conn, row.id))

    async def remove_budget(self, request: RemoveBudget, context: Context) -> BudgetGone:
        """Raises Rejection(not_found) or (invalid)."""
        account = _account(request)
        async with self._uow.order(request, context) as tx:
            row = await store.budget(tx.conn, request.company, account)
            gone = await store.remove(tx.conn, request.company, account)
            if row is None or gone is None:
                raise Rejection(Code.NOT_FOUND, f"there is no budget of {request.scope} {request.scope_id}")
            tx.publish(BudgetRemoved(company=request.company, budget_id=row.id, **row.told(), by=request.by))
            tx.after_commit(self._changed)
            return tx.answer(BudgetGone(removed=gone))

    async def reserve(self, request: ReserveSpend, context: Context) -> Reserved:
        """Raises Rejection(over_budget)."""
        call = Call(request.amount_usd, request.model, request.note, request.for_s)
        accounts = request.payer.accounts(request.company)
        try:
            async with self._uow.order(request, context) as tx:
                about = (request.command_id, request.company, accounts, call)
                is_open = await reserve(tx.conn, *about, purchase=request.purchase)
                return tx.answer(Reserved(reservation=request.command_id if is_open else None))
        except Short as short:
            place = request.purchase.context if request.purchase else None
            await self._till.tell(request.company, short, context, place)
            details = short.shortage.model_dump(mode="json")
            raise Rejection(Code.OVER_BUDGET, str(short), **details) from None

    async def settle(self, request: SettleSpend, _: Context) -> Settled:
        was_open = await self._till.settle(request.reservation, request.amount_usd, request.took)
        return Settled(was_open=was_open)

    async def _changed(self) -> None:
        self._on_change()


def _account(request: SetBudget | RemoveBudget) -> Account:
    """Raises Rejection(invalid) for an id that could never spend anything."""
    scope, id = request.scope, request.scope_id
    if scope is Scope.COMPANY and id != request.company:
        raise _wrong(f"a company has a budget of its own only: company/{request.company}")
    if scope is Scope.TASK and not _is_uuid(id):
        raise _wrong("the id of a task is a UUID")
    return scope, id.lower() if scope is Scope.TASK else id


def _wrong(message: str) -> Rejection:
    return Rejection(Code.INVALID, message, errors=[{"loc": ["scope_id"], "msg": message}])


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False
