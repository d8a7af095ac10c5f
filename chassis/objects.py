"""The SQL of objects: which bytes in the store are a service's, who is about to need them, and which nobody names any more.

A service that keeps bytes has a table `objects` (company_id, sha256, size, stored, wanted_at, doomed_at) in its schema.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from chassis.postgres import Connection, Pool

AT_ONCE = 1_000  # objects of a statement
LOOKS = 20  # statements
SHOWN = 100_000  # objects that are looked at for who only wants to see
#: what is doomed for so long has lost who was to delete it
OLD = """
(o.doomed_at is null or o.doomed_at < clock_timestamp() - interval '1 hour')
and o.wanted_at < clock_timestamp() - make_interval(secs => {age})
"""
OLDEST = f"""
from objects o where ($1::text is null or o.company_id = $1) and {OLD.format(age="$2")} order by o.wanted_at limit $4
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """What a service keeps: in words, under which key, and the condition in SQL under which somebody names a row `o`."""

    what: str
    key: Callable[[str, str], str]  # of company and sha256
    named: str
    companies: str = "select distinct company_id from objects"  # who may have sent some

    def unused(self, age: str) -> str:
        return f"{OLD.format(age=age)} and not ({self.named})"


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
        """Company, sha256 and size of what nobody names and nobody has wanted for so many seconds, among the oldest."""
        rows = await self._db.fetch(
            f"""
            select o.company_id, o.sha256, o.size from (select o.* {OLDEST}) o
            where not ({self._kept.named}) order by o.wanted_at limit $3
            """,
            *(company, older_than, most, SHOWN),
        )
        return [(row["company_id"], row["sha256"], row["size"]) for row in rows]

    async def doom_unused(self, company: str | None, older_than: float, most: int) -> list[tuple[str, str, int]]:
        """The same, marked: from now on nobody begins to use them. What is named counts as wanted now, so that whoever comes
        next looks at others: no look takes longer because much is kept."""
        found: list[tuple[str, str, int]] = []
        for _ in range(LOOKS):
            rows = await self._db.fetch(self._doom_oldest, company, older_than, most - len(found), AT_ONCE)
            found += [(row["company_id"], row["sha256"], row["size"]) for row in rows if row["sha256"] is not None]
            if rows[0]["seen"] < AT_ONCE or len(found) == most:
                break
        return found

    @property
    def _doom_oldest(self) -> str:
        """At least one row: how many were seen, and each that was doomed."""
        return f"""
            with seen as materialized (
                select o.company_id, o.sha256, ({self._kept.named}) as named {OLDEST} for update of o skip locked),
            touched as (
                update objects as t set wanted_at = clock_timestamp() from seen x
                where x.named and t.company_id = x.company_id and t.sha256 = x.sha256),
            doomed as (
                update objects as d set doomed_at = clock_timestamp(), stored = false
                from (select * from seen where not named limit $3) x
                where d.company_id = x.company_id and d.sha256 = x.sha256 returning d.company_id, d.sha256, d.size)
            select s.n as seen, d.* from (select count(*)::int as n from seen) s left join doomed d on true
        """

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
