"""The SQL of budgets and reservations, and the terms of a node. Who locks budgets locks them in the order of scopes."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg

from chassis.postgres import Connection, Pool, affected
from contracts.budgets import Budget, ListBudgets, Purchase, Took
from contracts.scope import Scope
from services.executor.domain.budget import Account
from services.executor.domain.facts import money
from services.executor.domain.purchases import to_book
from services.executor.engine.reviews.store import STILL_TOLD
from services.executor.spending.booking.store import add_purchase
from services.executor.spending.waits.store import STILL_WAITS
from services.executor.store import ordering

BUDGET = (
    "id, company_id, scope, scope_id, limit_usd, spent_usd, reserved_usd, exhausted_at, set_by, created_at, updated_at"
)
#: one that was settled before it was made stays, so that it never is
CLOSE = (
    "delete from reservations where id = $1 and settled_at is null returning company_id, budgets, amount_usd, purchase"
)
WAITING = f"""(select count(*) from budget_waits w where (w.company_id, w.scope, w.scope_id)
    = (budgets.company_id, budgets.scope, budgets.scope_id) and {STILL_WAITS})::int as waiting"""

ORDERS = {name: name for name in ("scope_id", "limit_usd", "spent_usd", "created_at", "updated_at")} | {
    "scope": "array_position('{company,project,task,agent}'::text[], scope)"
}


class Row(NamedTuple):
    """A budget as it is, in decimals."""

    id: UUID
    company: str
    scope: Scope
    scope_id: str
    limit: Decimal
    spent: Decimal
    reserved: Decimal

    def told(self) -> dict[str, Any]:
        """The fields that facts and shortages share."""
        return {
            "scope": self.scope,
            "scope_id": self.scope_id,
            "limit_usd": money(self.limit),
            "spent_usd": money(self.spent),
            "reserved_usd": money(self.reserved),
        }


# reservations


async def hold_off_new_budgets(connection: Connection) -> None:
    """Until the end of the transaction: else one that begins after we looked for it would not see our reservation. Before
    any budget is locked: who settles holds off the new one as well, and would wait for us, who wait for the new one."""
    await connection.execute("lock table reservations in row exclusive mode")


async def take(connection: Connection, company: str, account: Account, amount: Decimal) -> UUID | None:
    """The budget of the account with so much more reserved; None when it does not bear it, or is not there."""
    found: UUID | None = await connection.fetchval(
        """update budgets set reserved_usd = reserved_usd + $4, updated_at = clock_timestamp()
           where company_id = $1 and scope = $2 and scope_id = $3 and spent_usd + reserved_usd + $4 <= limit_usd
           returning id""",
        company, *account, amount,
    )  # fmt: skip
    return found


async def budget(connection: Connection | Pool, company: str, account: Account) -> Row | None:
    row = await connection.fetchrow(
        f"select {BUDGET} from budgets where company_id = $1 and scope = $2 and scope_id = $3", company, *account
    )
    return row_of(row) if row else None


async def note_reservation(
    connection: Connection,
    id: UUID,
    company: str,
    budgets: Sequence[UUID],
    amount: Decimal,
    lasts: float,
    accounts: Sequence[Account] | None,
    worker: UUID | None = None,
    node: UUID | None = None,
    attempt: int | None = None,
    *,
    purchase: Purchase | None = None,
) -> bool:
    """False when it has been settled already: nobody makes this call any more. `accounts` of who calls for no node."""
    payer = None if accounts is None else [f"{scope}/{id}" for scope, id in accounts]
    tag = await connection.execute(
        """insert into reservations
               (id, company_id, budgets, amount_usd, accounts, worker_id, node_id, attempt, expires_at, purchase)
           values ($1, $2, $3, $4, $5, $6, $7, $8, clock_timestamp() + make_interval(secs => $9), $10)
           on conflict (id) do nothing""",
        id, company, budgets, amount, payer, worker, node, attempt, lasts,
        purchase.model_dump(mode="json") if purchase else None,
    )  # fmt: skip
    return affected(tag) == 1


async def settle(
    connection: Connection, reservation: UUID, amount: Decimal | None, took: Took | None = None
) -> bool | None:
    """Whether somebody may wait for the room that this makes; None when there was nothing to settle, and then there never
    will be. In a transaction."""
    row = await connection.fetchrow(CLOSE, reservation)
    if row is None and not await _forbid(connection, reservation):
        row = await connection.fetchrow(CLOSE, reservation)  # it was committed while we looked
    if row is None:
        return None
    awaited = False
    for id in row["budgets"]:
        found = await connection.fetchval(
            """update budgets set reserved_usd = reserved_usd - $2, spent_usd = spent_usd + coalesce($3, $2),
                   updated_at = clock_timestamp()
               where id = $1 returning exhausted_at is not null""",
            id, row["amount_usd"], amount,
        )  # fmt: skip
        awaited = awaited or bool(found)
    if row["purchase"] is not None:
        purchase = Purchase.model_validate(row["purchase"])
        if (booked := to_book(purchase, amount, took)) is not None:
            await add_purchase(connection, row["company_id"], purchase, booked)
    return awaited


async def _forbid(connection: Connection, reservation: UUID) -> bool:
    """Whoever gives up asking settles, and may overtake what he asked for. Waits for a reservation that is being made."""
    tag = await connection.execute(
        """insert into reservations (id, company_id, budgets, amount_usd, settled_at, expires_at)
           values ($1, '', '{}', 0, clock_timestamp(), clock_timestamp()) on conflict (id) do nothing""",
        reservation,
    )
    return affected(tag) == 1


async def forget_settled(pool: Pool) -> None:
    """No reservation is on its way for so long."""
    await pool.execute("delete from reservations where settled_at < clock_timestamp() - interval '1 day'")


async def lost(pool: Pool, most: int) -> list[UUID]:
    """Reservations that nobody will settle: their worker is dead, or their time is over."""
    rows = await pool.fetch(
        """select r.id from reservations r left join workers w on w.id = r.worker_id
           where r.settled_at is null and not r.follows and (r.expires_at < clock_timestamp() or w.dead)
           order by r.id limit $1""",
        most,
    )
    return [row["id"] for row in rows]


async def note_exhaustion(connection: Connection, company: str, account: Account, need: Decimal | None) -> Row | None:
    """The budget, if this is the first refusal since its limit was set; a limit that was raised meanwhile bears it."""
    row = await connection.fetchrow(
        f"""update budgets set exhausted_at = clock_timestamp()
            where company_id = $1 and scope = $2 and scope_id = $3 and exhausted_at is null
              and ($4::numeric is null or spent_usd + reserved_usd + $4 > limit_usd) returning {BUDGET}""",
        company, *account, need,
    )  # fmt: skip
    return row_of(row) if row else None


async def terms_of(pool: Pool, node: UUID) -> tuple[dict[str, Any], dict[str, str], dict[str, Any] | None]:
    """What a node is to do (contracts.executor.RunNode, as JSON), the budgets in force for it, by scope, and what it is told
    beside (contracts.review.Guidance). A budget that follows the attempt is charged when that ends, and not by its calls.

    One statement for all: who has no budget takes not one more than before there were any.
    """
    row = await pool.fetchrow(
        f"""select n.spec, (select jsonb_object_agg(b.scope, b.scope_id) from budgets b, runs r
                           where r.id = n.run_id and b.company_id = n.company_id
                             and (b.scope, b.scope_id) in (('company', n.company_id), ('project', r.project_id),
                                 ('task', r.task_id::text), ('agent', n.spec->>'agent_id'))
                             and not exists (select from reservations f where f.follows and f.node_id = n.id
                                             and f.attempt = n.attempt and b.id = any(f.budgets))) as budgets,
                  (select guidance from guidances where node_id = n.id and {STILL_TOLD}
                   order by attempt desc limit 1) as guidance
           from nodes n where n.id = $1""",
        node,
    )
    assert row is not None, "runs are kept as long as they are active"
    return row["spec"], row["budgets"] or {}, row["guidance"]


# budgets


async def set_limit(
    connection: Connection, company: str, account: Account, limit: Decimal, by: str | None
) -> Row | None:
    """None when there is no such budget yet."""
    row = await connection.fetchrow(
        f"""update budgets set limit_usd = $4, set_by = $5, exhausted_at = null, updated_at = clock_timestamp()
            where company_id = $1 and scope = $2 and scope_id = $3 returning {BUDGET}""",
        company, *account, limit, by,
    )  # fmt: skip
    return row_of(row) if row else None


async def remove(connection: Connection, company: str, account: Account) -> Budget | None:
    row = await connection.fetchrow(
        f"delete from budgets where company_id = $1 and scope = $2 and scope_id = $3 returning {BUDGET}, {WAITING}",
        company, *account,
    )  # fmt: skip
    return shown(row) if row else None


async def shown_of(connection: Connection, id: UUID) -> Budget:
    row = await connection.fetchrow(f"select {BUDGET}, {WAITING} from budgets where id = $1", id)
    assert row is not None, "written in this transaction"
    return shown(row)


async def list_budgets(connection: Connection | Pool, q: ListBudgets) -> tuple[list[Budget], int]:
    filters = """from budgets where company_id = $1
        and ($2::text is null or scope = $2) and ($3::text is null or scope_id = $3)"""
    given = (q.company, q.scope, q.scope_id)
    order = ordering(q.order_by, ORDERS, f"{ORDERS['scope']} asc")
    rows = await connection.fetch(
        f"select {BUDGET}, {WAITING} {filters} order by {order}, scope_id limit $4 offset $5", *given, q.limit, q.offset
    )
    return [shown(row) for row in rows], await connection.fetchval(f"select count(*) {filters}", *given)


def shown(row: asyncpg.Record) -> Budget:
    kept = ("exhausted_at", "set_by", "created_at", "updated_at")
    return Budget(**row_of(row).told(), waiting_nodes=row["waiting"], **{name: row[name] for name in kept})


def row_of(row: asyncpg.Record) -> Row:
    sums = (row["limit_usd"], row["spent_usd"], row["reserved_usd"])
    return Row(row["id"], row["company_id"], Scope(row["scope"]), row["scope_id"], *sums)
