"""The SQL of objects: which bytes in the store are ours, who is about to need them, and which nobody names any more."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from chassis.postgres import Connection, Pool

#: True for an object that somebody names
IS_NAMED = """
(exists (select from artifacts a where a.company_id = o.company_id and a.sha256 = o.sha256)
 or exists (select from staged t where t.company_id = o.company_id and t.sha256 = o.sha256)
 or exists (select from previews p where p.company_id = o.company_id and p.zip_sha256 = o.sha256)
 or exists (select from previews p where p.company_id = o.company_id and p.state in ('received', 'publishing')
            and jsonb_path_exists(p.tree, '$.*[0] ? (@ == $s)', jsonb_build_object('s', o.sha256)))
 or exists (select from manifests m where m.objects @> array[o.sha256] and m.company_id = o.company_id))
"""
UNUSED = f"o.doomed_at is null and not {IS_NAMED} and o.wanted_at < clock_timestamp() - make_interval(secs => $2)"


class ObjectStore:
    """Statements on one connection, or on the pool."""

    def __init__(self, db: Connection | Pool) -> None:
        self._db = db

    async def want(self, company: str, sizes: Mapping[str, int]) -> tuple[set[str], set[str]]:
        """By sha256: those that must be put, and those that are being deleted. None of the others goes for a while."""
        rows = await self._db.fetch(
            """
            insert into objects as o (company_id, sha256, size)
            select $1, sha256, size from unnest($2::text[], $3::bigint[]) as x (sha256, size) order by sha256
            on conflict (company_id, sha256) do update
                set wanted_at = case when o.doomed_at is null then clock_timestamp() else o.wanted_at end
            returning sha256, stored, doomed_at is not null as doomed
            """,
            *(company, list(sizes), list(sizes.values())),
        )
        missing = {row["sha256"] for row in rows if not row["stored"]}
        return missing, {row["sha256"] for row in rows if row["doomed"]}

    async def stored(self, company: str, sha256s: Collection[str]) -> None:
        await self._db.execute(
            "update objects set stored = true where company_id = $1 and sha256 = any($2) and not stored",
            *(company, list(sha256s)),
        )

    async def unused(self, company: str | None, older_than: float, most: int) -> list[tuple[str, str, int]]:
        """Company, sha256 and size of what nobody names and nobody has wanted for so many seconds."""
        rows = await self._db.fetch(
            f"""
            select o.company_id, o.sha256, o.size from objects o
            where ($1::text is null or o.company_id = $1) and {UNUSED} order by o.wanted_at limit $3
            """,
            *(company, older_than, most),
        )
        return [(row["company_id"], row["sha256"], row["size"]) for row in rows]

    async def doom(self, company: str | None, older_than: float, most: int) -> list[tuple[str, str, int]]:
        """The same, marked: from now on nobody begins to use them."""
        rows = await self._db.fetch(
            f"""
            update objects as d set doomed_at = clock_timestamp(), stored = false
            from (select o.company_id, o.sha256 from objects o
                  where ($1::text is null or o.company_id = $1) and {UNUSED}
                  order by o.wanted_at limit $3 for update skip locked) as x
            where d.company_id = x.company_id and d.sha256 = x.sha256 returning d.company_id, d.sha256, d.size
            """,
            *(company, older_than, most),
        )
        return [(row["company_id"], row["sha256"], row["size"]) for row in rows]

    async def doomed(self, company: str, sha256s: Sequence[str]) -> dict[str, int]:
        """Sizes of those that still are."""
        rows = await self._db.fetch(
            "select sha256, size from objects where company_id = $1 and sha256 = any($2) and doomed_at is not null",
            *(company, list(sha256s)),
        )
        return {row["sha256"]: row["size"] for row in rows}

    async def companies(self) -> list[str]:
        """Who has deliverables."""
        rows = await self._db.fetch("select distinct company_id from objects order by company_id")
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

    async def forget(self, company: str, sha256s: Sequence[str]) -> None:
        await self._db.execute(
            "delete from objects where company_id = $1 and sha256 = any($2) and doomed_at is not null",
            *(company, list(sha256s)),
        )
