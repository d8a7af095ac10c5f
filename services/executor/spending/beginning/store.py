"""The SQL of a budget's beginning: what its nodes have cost, and what is under way and counts when it ends."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple
from uuid import UUID, uuid4

import asyncpg

from chassis.postgres import Connection, Pool
from contracts.errors import RetryLater
from contracts.scope import Scope
from services.executor.domain.budget import Account
from services.executor.spending.store import BUDGET, Row, row_of

#: No attempt begins or ends, and nothing is reserved or settled, between the look at what was spent and the budget's being
#: there: else what happens in between would be counted neither before nor after. Who reads is not held up.
STAND_STILL = "lock table attempts, reservations in share row exclusive mode"
LONGEST_WAIT = "set local lock_timeout = '2s'"  # everybody who writes waits behind us

#: by scope: the nodes that it is about
OF_A: dict[Scope, str] = {
    Scope.COMPANY: "nodes n where n.company_id = $1 and n.company_id = $2",
    Scope.PROJECT: "nodes n join runs r on r.id = n.run_id where r.company_id = $1 and r.project_id = $2",
    Scope.TASK: "nodes n join runs r on r.id = n.run_id where r.company_id = $1 and r.task_id::text = $2",
    Scope.AGENT: "nodes n where n.company_id = $1 and n.spec->>'agent_id' = $2",
}


#: reservations of other services' calls; by the places of the scope and of its id
PAID_BY = "company_id = $1 and ${}::text || '/' || ${} = any(accounts) and settled_at is null"


class Ended(NamedTuple):
    """What followed an attempt, and what that came to."""

    reservation: UUID
    cost: Decimal


async def begin(connection: Connection, company: str, account: Account, limit: Decimal, by: str | None) -> Row:
    """Raises RetryLater. In a transaction."""
    await connection.execute(LONGEST_WAIT)
    try:
        await connection.execute(STAND_STILL)
    except asyncpg.LockNotAvailableError:
        raise RetryLater(1.0, "too much is being written to see what has been spent; repeat the request") from None
    id, (scope, scope_id) = uuid4(), account
    held = await _follow(connection, id, company, account)
    # which may be more than the limit: nothing is granted then, as after a limit was lowered
    row = await connection.fetchrow(
        f"""insert into budgets (id, company_id, scope, scope_id, limit_usd, set_by, spent_usd, reserved_usd)
            values ($3, $1, $4, $2, $5, $6, coalesce((select sum(n.cost_usd) from {OF_A[scope]}), 0),
                    $7 + coalesce((select sum(amount_usd) from reservations where {PAID_BY.format(4, 2)}), 0))
            on conflict (company_id, scope, scope_id) do nothing returning {BUDGET}""",
        company, scope_id, id, scope, limit, by, held,
    )  # fmt: skip
    if row is None:
        raise RetryLater(0.1, "somebody sets this budget at the same time; repeat the request")
    await _join(connection, id, company, account)
    return row_of(row)


async def _follow(connection: Connection, budget: UUID, company: str, account: Account) -> Decimal:
    """Attempts under way bear it when they end; until then what they have reserved elsewhere is held."""
    scope, id = account
    held: Decimal = await connection.fetchval(
        f"""with followed as (
                insert into reservations (id, company_id, budgets, amount_usd, node_id, attempt, follows, expires_at)
                select gen_random_uuid(), n.company_id, array[$3::uuid], coalesce((select sum(o.amount_usd)
                           from reservations o
                           where o.node_id = n.id and o.attempt = n.attempt and o.settled_at is null and not o.follows), 0),
                       n.id, n.attempt, true, 'infinity'
                from {OF_A[scope]} and n.status = 'running' returning amount_usd
            ) select coalesce(sum(amount_usd), 0) from followed""",
        company, id, budget,
    )  # fmt: skip
    return held


async def _join(connection: Connection, budget: UUID, company: str, account: Account) -> None:
    """Calls of other services bear it as if it had been there; in the order in which budgets are locked."""
    await connection.execute(
        f"""update reservations set budgets = (select array_agg(b.id order by array_position($5::text[], b.scope))
                from budgets b where b.id = any(reservations.budgets || $4::uuid))
            where {PAID_BY.format(2, 3)}""",
        company, *account, budget, [scope.value for scope in Scope],
    )  # fmt: skip


async def ended(pool: Pool, most: int) -> list[Ended]:
    """Of attempts that are over. What a call had cost that was cut off is noted a moment later than the end of its attempt;
    of one that was lost with its executor, at least what was held is charged."""
    rows = await pool.fetch(
        """select f.id, greatest(coalesce(a.cost_usd, 0),
                      case when a.status = 'lost' or a.node_id is null then f.amount_usd else 0 end) as cost
           from reservations f left join attempts a on a.node_id = f.node_id and a.number = f.attempt
           where f.follows and (a.node_id is null or a.status in ('succeeded', 'failed')
                or a.status <> 'running' and a.ended_at < clock_timestamp() - interval '5 seconds') limit $1""",
        most,
    )
    return [Ended(row["id"], row["cost"]) for row in rows]
