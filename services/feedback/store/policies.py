"""The SQL of policies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chassis.postgres import Connection, Pool
from contracts.feedback import ListPolicies, Policy, SetPolicy
from contracts.page import Page
from contracts.scope import Scope
from services.feedback.store.order import order

POLICY = "scope, scope_id, critical_threshold, auto_revise, set_by, updated_at"
MATCHES = "company_id = $1 and ($2::text is null or scope = $2) and ($3::text is null or scope_id = $3)"
ORDER: Mapping[str, str] = {"scope": "scope", "scope_id": "scope_id", "updated_at": "updated_at"}


class PolicyStore:
    """Statements on one connection, or on the pool for reads that need no transaction."""

    def __init__(self, db: Connection | Pool) -> None:
        self._db = db

    async def applying(self, company: str, scopes: Sequence[tuple[Scope, str]]) -> list[Policy]:
        rows = await self._db.fetch(
            f"""
            select {POLICY} from policies join unnest($2::text[], $3::text[]) as x (scope, scope_id) using (scope, scope_id)
            where company_id = $1
            """,
            *(company, [scope for scope, _ in scopes], [id for _, id in scopes]),
        )
        return [Policy(**row) for row in rows]

    async def policy(self, company: str, scope: Scope, scope_id: str) -> Policy | None:
        found = f"select {POLICY} from policies where company_id = $1 and scope = $2 and scope_id = $3"
        row = await self._db.fetchrow(found, company, scope, scope_id)
        return None if row is None else Policy(**row)

    async def page(self, ask: ListPolicies) -> Page[Policy]:
        rows = await self._db.fetch(
            f"""
            select {POLICY} from policies where {MATCHES}
            order by {order(ask.order_by, ORDER, "scope", "scope, scope_id")} limit $4 offset $5
            """,
            *(ask.company, ask.scope, ask.scope_id, ask.limit, ask.offset),
        )
        count = f"select count(*) from policies where {MATCHES}"
        total = await self._db.fetchval(count, ask.company, ask.scope, ask.scope_id)
        return Page[Policy](items=[Policy(**row) for row in rows], total=total)

    async def set(self, ask: SetPolicy, scope_id: str) -> Policy:
        row = await self._db.fetchrow(
            f"""
            insert into policies (company_id, scope, scope_id, critical_threshold, auto_revise, set_by)
            values ($1, $2, $3, $4, $5, $6)
            on conflict (company_id, scope, scope_id) do update
                set critical_threshold = excluded.critical_threshold, auto_revise = excluded.auto_revise,
                    set_by = excluded.set_by, updated_at = clock_timestamp()
            returning {POLICY}
            """,
            *(ask.company, ask.scope, scope_id, ask.critical_threshold, ask.auto_revise, ask.by),
        )
        assert row is not None, "the statement inserts or updates"
        return Policy(**row)

    async def remove(self, company: str, scope: Scope, scope_id: str) -> Policy | None:
        """What it was; None when there is none."""
        row = await self._db.fetchrow(
            f"delete from policies where company_id = $1 and scope = $2 and scope_id = $3 returning {POLICY}",
            *(company, scope, scope_id),
        )
        return None if row is None else Policy(**row)
