"""The SQL of objects: which bytes in the store are a service's, who is about to need them, and which nobody names any more.

A service that keeps bytes has a table `objects` (company_id, sha256, size, stored, wanted_at, doomed_at) in its schema.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from chassis.postgres import Connection, Pool

#: what is doomed for so long has lost who was to delete it
UNUSED = """
(o.doomed_at is null or o.doomed_at < clock_timestamp() - interval '1 hour') and not ({named})
and o.wanted_at < clock_timestamp() - make_interval(secs => {age})
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """What a service keeps: in words, under which key, and the condition in SQL under which somebody names a row `o`."""

    what: str
    key: Callable[[str, str], str]  # of company and sha256
    named: str
    companies: str = "select distinct company_id from objects"  # who may have sent some

    def unused(self, age: str) -> str:
        return UNUSED.format(named=self.named, age=age)


class Objects:
    """Statements on one connection, or on the pool."""

    def __init__(self, db: Connection | Pool, kept: Kept) -> None:
        self._db = db
        self._kept = kept

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
            where ($1::text is null or o.company_id = $1) and {self._kept.unused("$2")} order by o.wanted_at limit $3
            """,
            *(company, older_than, most),
        )
        return [(row["company_id"], row["sha256"], row["size"]) for row in rows]

    async def doom_unused(self, company: str | None, older_than: float, most: int) -> list[tuple[str, str, int]]:
        """The same, marked: from now on nobody begins to use them."""
        rows = await self._db.fetch(
            f"""
            update objects as d set doomed_at = clock_timestamp(), stored = false
            from (select o.company_id, o.sha256 from objects o
                  where ($1::text is null or o.company_id = $1) and {self._kept.unused("$2")}
                  order by o.wanted_at limit $3 for update skip locked) as x
            where d.company_id = x.company_id and d.sha256 = x.sha256 returning d.company_id, d.sha256, d.size
            """,
            *(company, older_than, most),
        )
        return [(row["company_id"], row["sha256"], row["size"]) for row in rows]

    async def doom(self, company: str, sha256s: Collection[str], older_than: float) -> tuple[set[str], bool]:
        """Of these, those that are marked, now or before. And whether others, that nobody names either, were wanted too
        lately for that."""
        await self._db.execute(
            f"""
            update objects as o set doomed_at = clock_timestamp(), stored = false
            where o.company_id = $1 and o.sha256 = any($2) and {self._kept.unused("$3")}
            """,
            *(company, list(sha256s), older_than),
        )
        rows = await self._db.fetch(
            f"""
            select o.sha256, o.doomed_at is not null as doomed from objects o
            where o.company_id = $1 and o.sha256 = any($2) and not ({self._kept.named})
            """,
            *(company, list(sha256s)),
        )
        doomed = {row["sha256"] for row in rows if row["doomed"]}
        return doomed, len(doomed) < len(rows)

    async def doomed(self, company: str, sha256s: Collection[str]) -> dict[str, int]:
        """Sizes of those that still are."""
        rows = await self._db.fetch(
            "select sha256, size from objects where company_id = $1 and sha256 = any($2) and doomed_at is not null",
            *(company, list(sha256s)),
        )
        return {row["sha256"]: row["size"] for row in rows}

    async def companies(self) -> list[str]:
        return sorted(row["company_id"] for row in await self._db.fetch(self._kept.companies))

    async def doomed_since(self, company: str, sha256: str) -> float | None:
        """Seconds. None: it is not, or not any more."""
        since: float | None = await self._db.fetchval(
            """
            select extract(epoch from clock_timestamp() - doomed_at)::float8 from objects o
            where company_id = $1 and sha256 = $2
            """,
            *(company, sha256),
        )
        return since

    async def doom_unknown(self, company: str, sha256s: Collection[str]) -> list[str]:
        """Those that were nobody's: who wants them now waits until they are gone."""
        rows = await self._db.fetch(
            """
            insert into objects (company_id, sha256, size, doomed_at)
            select $1, sha256, 0, clock_timestamp() from unnest($2::text[]) as x (sha256)
            on conflict (company_id, sha256) do nothing returning sha256
            """,
            *(company, list(sha256s)),
        )
        return [row["sha256"] for row in rows]

    async def forget(self, company: str, sha256s: Collection[str]) -> None:
        await self._db.execute(
            "delete from objects where company_id = $1 and sha256 = any($2) and doomed_at is not null",
            *(company, list(sha256s)),
        )
