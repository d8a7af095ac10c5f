"""The SQL of what vectors cost: each call once, and their sums."""

from __future__ import annotations

from decimal import Decimal

import asyncpg

from chassis.postgres import Connection, Pool
from contracts.knowledge import EmbeddingSpend
from services.rag.domain.spending import EmbeddingCall


class SpendingStore:
    """Statements on one connection, or on the pool where one alone is enough."""

    def __init__(self, db: Connection | Pool) -> None:
        self._db = db

    async def note(self, call: EmbeddingCall) -> None:
        """Once, however often it is tried."""
        buyer, place = call.buyer, call.buyer.place
        where = (place.run_id, place.node_id, place.attempt, place.effect) if place else (None,) * 4
        await self._db.execute(
            """
            with noted as (
                insert into embedding_calls (id, company_id, provider, model, purpose, project, task_id, agent_id, run_id,
                                             node_id, attempt, effect, texts, tokens, cost_usd, estimated, latency_ms)
                values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
                on conflict do nothing returning *)
            insert into embedding_spend as s (company_id, provider, model, purpose, calls, tokens, cost_usd,
                                              estimated_calls, unpriced_calls)
            select company_id, provider, model, purpose, 1, tokens, coalesce(cost_usd, 0), estimated::int,
                   (cost_usd is null)::int
            from noted
            on conflict (company_id, provider, model, purpose) do update set
                calls = s.calls + 1, tokens = s.tokens + excluded.tokens, cost_usd = s.cost_usd + excluded.cost_usd,
                estimated_calls = s.estimated_calls + excluded.estimated_calls,
                unpriced_calls = s.unpriced_calls + excluded.unpriced_calls
            """,
            *(call.id, buyer.company, call.embedder.provider, call.embedder.model, buyer.purpose),
            *(buyer.payer.project, buyer.payer.task_id, buyer.payer.agent_id, *where),
            *(call.texts, call.tokens, call.cost, call.estimated, call.latency_ms),
        )

    async def of(self, company: str) -> list[EmbeddingSpend]:
        rows = await self._db.fetch(
            """
            select provider, model, purpose, calls, tokens, cost_usd, estimated_calls, unpriced_calls
            from embedding_spend where company_id = $1 order by provider, model, purpose
            """,
            company,
        )
        return [EmbeddingSpend.model_validate(dict(row) | {"cost_usd": _money(row)}) for row in rows]


def _money(row: asyncpg.Record) -> str | None:
    """None when none of the calls has a price."""
    cost: Decimal = row["cost_usd"]
    return None if row["calls"] == row["unpriced_calls"] else format(cost.normalize(), "f")
