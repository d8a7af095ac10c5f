"""The SQL of what other services' calls add to a node's costs, and so to its run's."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import structlog

from chassis.postgres import Connection
from contracts.budgets import Purchase, Took
from contracts.executor import Usage
from services.executor.domain.facts import SPENT, Spend
from services.executor.domain.purchases import LAST_OF_ITS_OWN

log = structlog.get_logger(__name__)

#: what the attempt `a` took, all told
TOOK = ", ".join(f"coalesce(a.{column}, 0) + coalesce(p.{column}, 0) as {column}" for column in SPENT)
PURCHASES_OF_IT = "left join purchases p on p.node_id = a.node_id and p.attempt = a.number"


async def add_to_node(connection: Connection, company: str, node: UUID, attempt: int, usage: Usage) -> UUID | None:
    """Its run; None when there is no such attempt. Who does so at the same time waits until the transaction ends."""
    run: UUID | None = await connection.fetchval(
        """update nodes n set prompt_tokens = n.prompt_tokens + $4, completion_tokens = n.completion_tokens + $5,
               requests = n.requests + $6, cost_usd = coalesce(n.cost_usd, 0) + $7,
               estimated_calls = n.estimated_calls + $8, unpriced_calls = n.unpriced_calls + $9
           where id = $1 and company_id = $2 and ($3 = 0 or exists (select from attempts where node_id = $1 and number = $3))
           returning run_id""",
        node, company, attempt, *_sums(usage),
    )  # fmt: skip
    return run


async def add_purchase(connection: Connection, company: str, purchase: Purchase, took: Took) -> None:
    """In the transaction that closes its reservation, and so once."""
    node, attempt = purchase.context.node_id, purchase.context.attempt
    run = await add_to_node(connection, company, node, attempt, took.usage)
    if run is None:
        log.warning("purchase.of_no_attempt", node_id=str(node), attempt=attempt, usage=took.usage.model_dump())
        return
    added = ", ".join(f"{column} = p.{column} + excluded.{column}" for column in SPENT)
    await connection.execute(
        f"""insert into purchases as p (node_id, attempt, company_id, {", ".join(SPENT)})
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9) on conflict (node_id, attempt) do update set {added}""",
        node, attempt, company, *_sums(took.usage),
    )  # fmt: skip
    await connection.execute(
        """insert into sidecars (run_id, node_id, attempt, call, document)
           select $1, $2, $3, greatest(coalesce(max(call), 0), $5) + 1, $4
           from sidecars where node_id = $2 and attempt = $3""",
        run, node, attempt, took.sidecar, LAST_OF_ITS_OWN,
    )  # fmt: skip


def _sums(usage: Usage) -> tuple[Any, ...]:
    spend = Spend.told(usage)
    return (
        *(spend.prompt_tokens, spend.completion_tokens, spend.requests),
        *(spend.cost, spend.estimated, spend.unpriced),
    )
