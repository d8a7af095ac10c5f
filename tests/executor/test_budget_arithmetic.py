"""Whatever is set, reserved, settled and removed, in whatever order: the sums are those of a plain account."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from decimal import Decimal
from uuid import UUID, uuid4

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from chassis.postgres import Pool
from chassis.service import Chassis
from contracts.scope import Scope
from services.executor.domain.budget import Account
from services.executor.spending import store
from services.executor.spending.beginning import store as beginning
from services.executor.spending.till import Call, Short, reserve
from tests.executor.conftest import World

ACCOUNTS = [(Scope.COMPANY, "default"), (Scope.PROJECT, "p"), (Scope.AGENT, "ada")]
CENTS = st.integers(1, 300).map(lambda cents: Decimal(cents) / 100)
WHICH = st.integers(0, 2)
OPERATIONS = st.one_of(
    st.tuples(st.just("set"), WHICH, CENTS),
    st.tuples(st.just("reserve"), st.just(0), CENTS),
    st.tuples(st.just("reserve"), st.just(0), CENTS),
    st.tuples(st.just("settle"), st.integers(0, 9), st.none() | CENTS),
    st.tuples(st.just("remove"), WHICH, st.none()),
)


@dataclass
class Ledger:
    """By hand: limit, spent and reserved of each budget, and what each open reservation holds in which."""

    budgets: dict[int, list[Decimal]] = field(default_factory=dict)
    open: list[tuple[UUID, Decimal, list[list[Decimal]]]] = field(default_factory=list)

    def set(self, which: int, limit: Decimal) -> None:
        """A new one bears the calls that are under way."""
        if which not in self.budgets:
            self.budgets[which] = [limit, Decimal(0), sum((amount for _, amount, _ in self.open), Decimal(0))]
            for _, _, held in self.open:
                held.append(self.budgets[which])
        self.budgets[which][0] = limit

    def bears(self, amount: Decimal) -> bool:
        return all(spent + reserved + amount <= limit for limit, spent, reserved in self.budgets.values())

    def reserve(self, id: UUID, amount: Decimal) -> None:
        held = list(self.budgets.values())
        for budget in held:
            budget[2] += amount
        if held:
            self.open.append((id, amount, held))

    def settle(self, which: int, amount: Decimal | None) -> UUID:
        id, reserved, held = self.open.pop(which % len(self.open))
        for budget in held:
            budget[2] -= reserved
            budget[1] += reserved if amount is None else amount
        return id


@pytest.fixture
async def executor(world: World) -> AsyncIterator[Chassis]:
    async with world.executor(reconcile_s=3600) as chassis:
        yield chassis


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations=st.lists(OPERATIONS, min_size=10, max_size=40))
async def test_the_database_keeps_the_same_account_as_a_pencil(
    executor: Chassis, operations: list[tuple[str, int, Decimal | None]]
) -> None:
    pool, pencil = executor.pool, Ledger()
    await pool.execute("delete from budgets; delete from reservations")
    for what, which, amount in operations:
        match what:
            case "set" if amount is not None:
                await _set(pool, ACCOUNTS[which], amount)
                pencil.set(which, amount)
            case "reserve" if amount is not None:
                await _reserve(pool, pencil, amount)
            case "settle" if pencil.open:
                id = pencil.settle(which, amount)
                for again in (False, True):
                    async with pool.acquire() as connection, connection.transaction():
                        assert (await store.settle(connection, id, amount) is None) == again
            case "remove":
                await store.remove(pool, "default", ACCOUNTS[which])
                pencil.budgets.pop(which, None)
        assert await _kept(pool) == pencil.budgets


async def _set(pool: Pool, account: Account, limit: Decimal) -> None:
    terms = ("default", account, limit, None)
    async with pool.acquire() as connection, connection.transaction():
        assert await store.set_limit(connection, *terms) or await beginning.begin(connection, *terms)


async def _reserve(pool: Pool, pencil: Ledger, amount: Decimal) -> None:
    """Granted exactly when every budget bears it; a refusal leaves no trace."""
    id, granted = uuid4(), True
    try:
        async with pool.acquire() as connection, connection.transaction():
            await reserve(connection, id, "default", ACCOUNTS, Call(amount, "m", "", 60))
    except Short:
        granted = False
    assert granted == pencil.bears(amount)
    if granted:
        pencil.reserve(id, amount)


async def _kept(pool: Pool) -> dict[int, list[Decimal]]:
    found = {}
    for which, account in enumerate(ACCOUNTS):
        if (row := await store.budget(pool, "default", account)) is not None:
            found[which] = [row.limit, row.spent, row.reserved]
            assert min(found[which]) >= 0
    return found
