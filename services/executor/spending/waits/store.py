"""The SQL of nodes that wait for money: who does, for whom there is room, and how their runs are told."""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from chassis.postgres import Connection, Pool
from contracts.budgets import Shortage
from services.executor.domain.budget import Account, Wait
from services.executor.engine import signals

#: of the row `w` of budget_waits: whatever else has moved its node on has made an end of the wait
STILL_WAITS = """exists (select from nodes n
    where n.id = w.node_id and n.status = 'paused' and 'budget' = any(n.pause_reasons))"""


class Release(NamedTuple):
    """Nodes of a run for whose calls there is room now."""

    run_id: UUID
    nodes: list[UUID]


async def save_waits(connection: Connection, waits: Collection[Wait]) -> None:
    """With the turn that pauses these nodes."""
    for wait in waits:
        short = wait.shortage
        await connection.execute(
            """insert into budget_waits (node_id, run_id, company_id, scope, scope_id, need_usd, model, note)
               values ($1, $2, $3, $4, $5, $6, $7, $8)
               on conflict (node_id) do update set scope = excluded.scope, scope_id = excluded.scope_id,
                   need_usd = excluded.need_usd, model = excluded.model, note = excluded.note, since = clock_timestamp()""",
            wait.node_id, wait.run_id, wait.company, short.scope, short.scope_id, _need(short), short.model, short.note,
        )  # fmt: skip


async def releases(pool: Pool) -> list[Release]:
    """Of the nodes that wait, as many as find room together; and all whose budget is gone."""
    rows = await pool.fetch(
        f"""with waiting as (
               select w.*, sum(w.need_usd) over
                          (partition by company_id, scope, scope_id order by need_usd, since, node_id) as needed
               from budget_waits w where {STILL_WAITS}
           )
           select w.run_id, array_agg(w.node_id) as nodes
           from waiting w left join budgets b using (company_id, scope, scope_id)
           where b.id is null or (w.need_usd is not null and w.needed <= b.limit_usd - b.spent_usd - b.reserved_usd)
           group by w.run_id order by w.run_id"""
    )
    return [Release(row["run_id"], row["nodes"]) for row in rows]


async def release(connection: Connection, found: Release) -> bool:
    """Tell the run's owner that these nodes may go on. False when nobody needs to be told any more."""
    await connection.execute("select from runs where id = $1 for update", found.run_id)
    rows = await connection.fetch(
        f"""delete from budget_waits w where w.node_id = any($1) and w.run_id = $2
            returning (select key from nodes n where n.id = w.node_id) as key, {STILL_WAITS} as waits""",
        found.nodes, found.run_id,
    )  # fmt: skip
    keys = [row["key"] for row in rows if row["waits"]]
    if keys:
        await connection.execute(
            "insert into signals (run_id, kind, payload) values ($1, $2, $3)",
            found.run_id,
            signals.FUNDED,
            {"keys": keys},
        )
        await connection.execute(
            "update runs set wake_at = clock_timestamp(), updated_at = clock_timestamp() where id = $1", found.run_id
        )
    return bool(keys)


async def forget_stale_waits(pool: Pool) -> None:
    await pool.execute(f"delete from budget_waits w where not {STILL_WAITS}")


async def look_at_prices_again(connection: Connection | Pool, account: tuple[str, Account] | None = None) -> None:
    """Who waits because no price was known may try once more: somebody has set the limit anew, or a process has started."""
    company, scope, id = (account[0], *account[1]) if account else (None, None, None)
    await connection.execute(
        """update budget_waits set need_usd = 0
           where need_usd is null and ($1::text is null or (company_id, scope, scope_id) = ($1, $2, $3))""",
        company, scope, id,
    )  # fmt: skip


def _need(short: Shortage) -> Decimal | None:
    return None if short.need_usd is None else Decimal(short.need_usd)
