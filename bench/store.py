"""The SQL of the benchmark: backlogs of committed starts, the instants of commits, and tables full of finished runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID, uuid4

from chassis.postgres import Connection

FRESH_RUN = {
    "status": "'queued'",
    "owner": "null",
    "epoch": "0",
    "wake_at": "null",  # nobody may claim it yet
    "created_at": "clock_timestamp()",
    "started_at": "null",
    "ended_at": "null",
}
FRESH_NODE = {"status": "'queued'", "attempt": "0", "started_at": "null", "ended_at": "null"}
RUNS, NODES = "copied_runs c", "copied_nodes c"
OF_RUN, OF_NODE = {"id": "c.id"}, {"id": "c.id", "run_id": "c.run_id"}


async def commit_backlog(connection: Connection, template: UUID, runs: int) -> list[UUID]:
    """Runs that stand as a finished one stood when it was started; they wait for `release`."""
    ids = [uuid4() for _ in range(runs)]
    async with connection.transaction():
        await _name_copies(connection, template, ids)
        await _copy(connection, "runs", RUNS, "x.id = $1", template, OF_RUN | FRESH_RUN)
        await _copy(connection, "nodes", NODES, "x.id = c.old and x.run_id = $1", template, OF_NODE | FRESH_NODE)
    return ids


async def release(connection: Connection, runs: Sequence[UUID]) -> datetime:
    """Makes the runs claimable; the instant of that commit."""
    transaction = await connection.fetchval(
        """with released as (
               update runs set wake_at = clock_timestamp() from unnest($1::uuid[]) as x (id) where runs.id = x.id
               returning 1
           )
           select pg_current_xact_id()::text from released limit 1""",
        list(runs),
    )
    instant: datetime = await connection.fetchval("select pg_xact_commit_timestamp($1::text::xid)", transaction)
    return instant


async def last_completion(connection: Connection, runs: Sequence[UUID]) -> datetime:
    """The instant of the commit that completed the last of them."""
    row = await connection.fetchrow(
        """select count(*) filter (where status = 'completed') as completed, max(pg_xact_commit_timestamp(xmin)) as last
           from runs where id = any($1)""",
        list(runs),
    )
    if row is None or row["completed"] != len(runs):
        raise RuntimeError(f"{len(runs)} runs were started, but not all of them completed")
    last: datetime = row["last"]
    return last


async def seconds_of(connection: Connection, run: UUID, command: UUID) -> float:
    """From the commit of the start to the commit of the completion."""
    seconds: float = await connection.fetchval(
        """select extract(epoch from pg_xact_commit_timestamp(r.xmin) - pg_xact_commit_timestamp(c.xmin))::float8
           from runs r, commands c where r.id = $1 and r.status = 'completed' and c.command_id = $2""",
        run, command,
    )  # fmt: skip
    return seconds


async def fill(connection: Connection, template: UUID, runs: int) -> None:
    """So many finished runs beside the living ones: copies of a finished one, with rows of their own in every table."""
    async with connection.transaction():
        await _name_copies(connection, template, [uuid4() for _ in range(runs)])
        await _copy(connection, "runs", RUNS, "x.id = $1", template, OF_RUN)
        await _copy(connection, "nodes", NODES, "x.id = c.old and x.run_id = $1", template, OF_NODE)
        attempt = {"node_id": "c.id", "run_id": "c.run_id"}
        await _copy(connection, "attempts", NODES, "x.node_id = c.old and x.run_id = $1", template, attempt)
        await _copy(connection, "stories", RUNS, "x.story = $1::uuid::text", template, {"story": "c.id::text"})
    for table in ("runs", "nodes", "attempts", "stories"):
        await connection.execute(f"vacuum (analyze) {table}")  # as it would be, had they come one by one


async def _name_copies(connection: Connection, template: UUID, ids: Sequence[UUID]) -> None:
    await connection.execute("create temp table copied_runs (id uuid) on commit drop")
    await connection.copy_records_to_table("copied_runs", records=[(id,) for id in ids])
    await connection.execute(
        """create temp table copied_nodes on commit drop as
           select n.id as old, c.id as run_id, (left(c.id::text, 18) || right(gen_random_uuid()::text, 18))::uuid as id
           from copied_runs c cross join nodes n where n.run_id = $1""",
        template,
    )


async def _copy(
    connection: Connection, table: str, copies: str, which: str, template: UUID, values: Mapping[str, str]
) -> None:
    """A row of `table` for each of `copies`, as the template's but for these values."""
    columns = [
        row["attname"]
        for row in await connection.fetch(
            """select attname from pg_attribute
               where attrelid = $1::text::regclass and attnum > 0 and not attisdropped and attgenerated = ''""",
            table,
        )
    ]
    chosen = ", ".join(values.get(name, f"x.{name}") for name in columns)
    await connection.execute(
        f"insert into {table} ({', '.join(columns)}) select {chosen} from {copies} join {table} x on {which}", template
    )
