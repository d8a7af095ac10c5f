"""The SQL of forgetting old facts: a feed is shortened from its beginning, and its floor says how far."""

from __future__ import annotations

from chassis.postgres import Connection, affected

BEGINNINGS = """
select company_id, coalesce(floors.position, 0) as floor from feeds left join floors using (company_id)
order by company_id
"""
#: up to the last fact before the first young one
OLD = """
select coalesce(min(position) filter (where at >= clock_timestamp() - make_interval(secs => $3)) - 1, max(position))
from (select position, at from timeline where company_id = $1 and position > $2 order by position limit $4) as first
"""
RAISE = """
insert into floors (company_id, position) values ($1, $2)
on conflict (company_id) do update set position = excluded.position
"""
FORGET = "delete from timeline where company_id = $1 and position > $2 and position <= $3"


async def forget_facts(connection: Connection, older_than: float, most: int) -> int:
    """The oldest facts of each feed, in one transaction with its floor. Positions go on counting."""
    gone = 0
    for feed in await connection.fetch(BEGINNINGS):
        company, floor = feed["company_id"], feed["floor"]
        upto = await connection.fetchval(OLD, company, floor, older_than, most)
        if upto is not None and upto > floor:
            async with connection.transaction():
                await connection.execute(RAISE, company, upto)
                gone += affected(await connection.execute(FORGET, company, floor, upto))
    return gone
