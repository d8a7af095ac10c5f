"""The outbox between commit and oblivion: which batches wait to be published, and which may go."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import groupby

from chassis import outbox
from chassis.outbox import Batch, OutboxRow
from chassis.postgres import Connection, Pool

PAGE = outbox.BATCH  # messages in memory at a time, with bodies of up to 64 KiB
PRUNED_AT_ONCE = 100  # batches

WAITING = """
select id, stream, size from (
    select id, stream, size, sum(size) over (order by id) as upto from (
        select id, stream, size from outbox_batches
        where published_at is null and id > $1 and not id = any($2::bigint[]) and stream = any($3::text[])
          and created_at < clock_timestamp() - make_interval(secs => $4)
        order by id limit $5) as oldest
) as counted where upto <= $5 or upto = size order by id
"""
ROWS = """
select batch, message_id, sent_as, subject, story, sequence, head, body from outbox
where batch = any($1::bigint[]) order by batch, id
"""
#: statement_timestamp(), because what a volatile function says could not be looked up in the index
PRUNE = """
with old as (
    select id from outbox_batches
    where published_at < statement_timestamp() - interval '10 minutes' and stream = $1 and last_sequence <= $2
    order by published_at limit $3
), gone as (
    delete from outbox using old where outbox.batch = old.id
)
delete from outbox_batches b using old where b.id = old.id
"""
AGE = """
select extract(epoch from clock_timestamp() - created_at)::float8 from outbox_batches
where published_at is null order by id limit 1
"""


async def page(
    connection: Connection, after: int, apart_from: Collection[int], streams: Collection[str], min_age: float
) -> list[Batch]:
    """The oldest batches behind `after` that wait for so long, at least one and no more messages than a page has."""
    heads = await connection.fetch(WAITING, after, list(apart_from), list(streams), min_age, PAGE)
    if not heads:
        return []
    found = await connection.fetch(ROWS, [head["id"] for head in heads])
    rows = {batch: [OutboxRow(*row[1:]) for row in group] for batch, group in groupby(found, key=lambda row: row[0])}
    return [Batch(head["id"], head["stream"], rows.get(head["id"], [])) for head in heads]


async def prune(pool: Pool, floors: Iterator[tuple[str, int]]) -> None:
    """What every consumer has passed, after ten minutes: until then its owner may be asked to say it again."""
    for stream, sequence in floors:
        await pool.execute(PRUNE, stream, sequence, PRUNED_AT_ONCE)


async def age(pool: Pool) -> float:
    """Seconds since the commit of the oldest message that is not on the bus."""
    seconds: float | None = await pool.fetchval(AGE)
    return seconds or 0.0
