"""The SQL of what becomes of old runs and of the results they had in the object store."""

from __future__ import annotations

from collections.abc import Sequence

from chassis.postgres import Connection, affected

#: an order whose run is alive: repeated, it is to be answered as it was
ORDERS_A_LIVING_RUN = """
    exists (select from runs where id = (commands.answer->>'run_id')::uuid and (ended_at is null or reopening))
"""
WORKS = "not dead or exists (select from runs where owner = workers.id)"

#: Nobody can speak in the story of a run that is gone, so its counter goes as well. Nodes and signals go by their keys.
FORGET_RUNS = """
with old as materialized (
    select id from runs
    where ended_at < clock_timestamp() - make_interval(secs => $1) and not reopening
      and not exists (select from signals where run_id = runs.id)
    order by ended_at limit $2 for update skip locked
), work as materialized (
    select nodes.id, output_ref->>'key' as key from nodes join old on run_id = old.id
), tries as (
    delete from attempts using old where run_id = old.id returning output_ref->>'key' as key
), accounts as (
    delete from sidecars using work where node_id = work.id
), counters as (
    delete from stories using old where story = old.id::text
), discarded as (
    insert into discarded_blobs (key)
    select key from work where key is not null union select key from tries where key is not null
    on conflict (key) do update set discarded_at = excluded.discarded_at
)
delete from runs using old where runs.id = old.id
"""
DISCARDED = """
select key, exists (select from nodes where output_ref->>'key' = d.key)
         or exists (select from attempts where output_ref->>'key' = d.key) as in_use
from discarded_blobs d where discarded_at < clock_timestamp() - make_interval(secs => $1)
order by discarded_at limit $2
"""


async def forget_runs(connection: Connection, older_than: float, most: int) -> int:
    """Runs that ended so many seconds ago, with all that they consist of; their large results are noted for deletion."""
    return affected(await connection.execute(FORGET_RUNS, older_than, most))


async def discarded(connection: Connection, waited: float, most: int) -> list[tuple[str, bool]]:
    """Keys that were noted so many seconds ago, and whether something names them (again)."""
    return [(row["key"], row["in_use"]) for row in await connection.fetch(DISCARDED, waited, most)]


async def settle(connection: Connection, keys: Sequence[str]) -> None:
    await connection.execute("delete from discarded_blobs where key = any($1)", list(keys))
