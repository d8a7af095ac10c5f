"""The SQL of shares: links to one preview or artifact that need no key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import asyncpg

from chassis.postgres import Connection, Pool
from contracts.page import Page
from contracts.previews import ListShares, Share
from services.publisher.store.order import order

SHARE = "id, preview_id, artifact_id, expires_at, revoked_at, made_by, created_at"
MATCHES = "company_id = $1 and ($2::uuid is null or preview_id = $2) and ($3::uuid is null or artifact_id = $3)"
ORDER: Mapping[str, str] = {"created_at": "created_at", "expires_at": "expires_at"}


class ShareStore:
    """Statements on one connection, or on the pool for reads that need no transaction."""

    def __init__(self, db: Connection | Pool) -> None:
        self._db = db

    async def add(
        self, company: str, id: UUID, of: Mapping[str, UUID | None], expires_in: int, by: str | None
    ) -> Share:
        row = await self._db.fetchrow(
            f"""
            insert into shares (id, company_id, secrets, preview_id, artifact_id, expires_at, made_by)
            values ($1, $2, '{{}}', $3, $4, clock_timestamp() + make_interval(secs => $5), $6) returning {SHARE}
            """,
            *(id, company, of["preview_id"], of["artifact_id"], expires_in, by),
        )
        assert row is not None, "the statement inserts"
        return _share(row)

    async def open_with(self, id: UUID, secret_sha256: str) -> None:
        """As well: a secret that was given out before goes on working."""
        await self._db.execute("update shares set secrets = array_append(secrets, $2) where id = $1", id, secret_sha256)

    async def revoke(self, company: str, id: UUID) -> tuple[Share, bool] | None:
        """And whether it was open until now. None when there is none."""
        row = await self._db.fetchrow(
            f"""
            with before as (
                select id, revoked_at is null and expires_at > clock_timestamp() as was_open
                from shares where company_id = $1 and id = $2 for update)
            update shares s set revoked_at = coalesce(s.revoked_at, clock_timestamp()) from before b where s.id = b.id
            returning {", ".join(f"s.{name}" for name in SHARE.split(", "))}, b.was_open
            """,
            *(company, id),
        )
        return None if row is None else (_share(row), row["was_open"])

    async def page(self, ask: ListShares) -> Page[Share]:
        matches = (ask.company, ask.preview_id, ask.artifact_id)
        rows = await self._db.fetch(
            f"""
            select {SHARE} from shares where {MATCHES}
            order by {order(ask.order_by, ORDER, "-created_at", "id")} limit $4 offset $5
            """,
            *(*matches, ask.limit, ask.offset),
        )
        total = await self._db.fetchval(f"select count(*) from shares where {MATCHES}", *matches)
        return Page[Share](items=[_share(row) for row in rows], total=total)


def _share(row: asyncpg.Record) -> Share:
    fields: dict[str, Any] = {name: row[name] for name in SHARE.split(", ")}
    return Share(url=None, **fields)
