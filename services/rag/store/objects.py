"""The SQL of objects: which bytes in the store are ours, who is about to need them, and which nobody names any more."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from chassis.postgres import Connection, Pool

IS_NAMED = """
(exists (select from versions v where v.company_id = o.company_id and v.sha256 = o.sha256)
 or exists (select from versions v where v.company_id = o.company_id and v.text_sha256 = o.sha256))
"""


class ObjectStore:
    """Statements on one connection, or on the pool."""

    def __init__(self, db: Connection | Pool) -> None:
        self._db = db

    async def want(self, company: str, sha256: str, size: int) -> tuple[bool, bool]:
        """Whether they must be put, and whether they are being deleted. Else they do not go for a while."""
        row = await self._db.fetchrow(
            """
            insert into objects as o (company_id, sha256, size) values ($1, $2, $3)
            on conflict (company_id, sha256) do update
                set wanted_at = case when o.doomed_at is null then clock_timestamp() else o.wanted_at end
            returning not stored as missing, doomed_at is not null as doomed
            """,
            *(company, sha256, size),
        )
        assert row is not None, "the statement returns"
        return row["missing"], row["doomed"]

    async def stored(self, company: str, sha256: str) -> None:
        await self._db.execute(
            "update objects set stored = true where company_id = $1 and sha256 = $2 and not stored", company, sha256
        )

    async def doom(self, company: str, sha256s: Sequence[str], grace: float) -> tuple[list[str], bool]:
        """Those that nobody names, marked: from now on nobody begins to use them. And whether others, that nobody names
        either, were wanted too lately for that."""
        doomed = await self._db.fetch(
            f"""
            update objects as o set doomed_at = coalesce(o.doomed_at, clock_timestamp()), stored = false
            where o.company_id = $1 and o.sha256 = any($2) and not {IS_NAMED}
            and (o.doomed_at is not null or o.wanted_at < clock_timestamp() - make_interval(secs => $3))
            returning o.sha256
            """,
            *(company, list(sha256s), grace),
        )
        waits = await self._db.fetchval(
            f"""
            select exists (select from objects o where o.company_id = $1 and o.sha256 = any($2) and o.doomed_at is null
                           and not {IS_NAMED})
            """,
            *(company, list(sha256s)),
        )
        return [row["sha256"] for row in doomed], bool(waits)

    async def unused(self, older_than: float, most: int) -> list[tuple[str, str]]:
        """Company and sha256 of what nobody names, nobody has wanted for so many seconds, and nobody deletes."""
        rows = await self._db.fetch(
            f"""
            select o.company_id, o.sha256 from objects o
            where o.wanted_at < clock_timestamp() - make_interval(secs => $1) and o.doomed_at is null and not {IS_NAMED}
            order by o.wanted_at limit $2
            """,
            *(older_than, most),
        )
        return [(row["company_id"], row["sha256"]) for row in rows]

    async def companies(self) -> list[str]:
        """Who has spaces, and so may have sent documents."""
        rows = await self._db.fetch("select distinct company_id from spaces order by company_id")
        return [row["company_id"] for row in rows]

    async def unknown(self, company: str, sha256s: Sequence[str]) -> list[str]:
        """Those that are nobody's."""
        rows = await self._db.fetch(
            """
            select sha256 from unnest($2::text[]) as x (sha256)
            where not exists (select from objects o where o.company_id = $1 and o.sha256 = x.sha256)
            """,
            *(company, list(sha256s)),
        )
        return [row["sha256"] for row in rows]

    async def forget(self, company: str, sha256s: Collection[str]) -> None:
        await self._db.execute(
            "delete from objects where company_id = $1 and sha256 = any($2) and doomed_at is not null",
            *(company, list(sha256s)),
        )
