"""The owner's SQL: leases, claims, orders, and the bulk writes of a turn. Who calls these holds the lease or asks for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg

from chassis.postgres import CONNECTION_LOST, Connection, Pool
from services.executor.domain.facts import Output
from services.executor.domain.run import Closed

#: The planner's guesses about unnest() on tables it has not analysed yet are hash joins over sequential scans,
#: 2.5 ms for a small transaction; without them a chain of no-ops took 1.8 ms per node in place of 9.5.
COMMITTER_SETTINGS = {
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "idle_in_transaction_session_timeout": "5s",  # a stopped process must not hold its locks for ever
    "statement_timeout": "10s",
}

MOST_VERDICTS = 500  # on one run, in one turn

#: the database is away, busy, full or being changed: what was to be done is done later
TROUBLE = (*CONNECTION_LOST, TimeoutError, asyncpg.PostgresError)

RUN_COLUMNS = """r.id, r.company_id, r.task_id, r.title, r.status, r.pause_reasons, r.dry_run, r.timeout, r.time_left,
    r.deadline_at, r.error, r.context, r.started_at, r.ended_at, r.epoch, r.project_id, r.gate, r.activation"""
NODE_COLUMNS = """id, run_id, key, title, role, deps, spec->>'kind' as kind, (spec->>'max_attempts')::int as max_attempts,
    status, attempt, failures, losses, waits, due_at, error, pause_reasons, parked_on, prompt_tokens, completion_tokens,
    requests, cost_usd, estimated_calls, unpriced_calls, spec->>'agent_id' as agent_id, verdict - 'critique' as verdict"""


class Order(NamedTuple):
    """A waiting signal; `more` when another waits behind it."""

    run_id: UUID
    kind: str
    payload: dict[str, Any]
    more: bool


class Fence(NamedTuple):
    """Our lease holds: the database's time, and the number of the turn, by which an unclear commit is looked up."""

    now: datetime
    turn: int


class Sidecar(NamedTuple):
    """The account of one model call; `call` counts those of the attempt from 1."""

    run: UUID
    node: UUID
    attempt: int
    call: int
    document: dict[str, Any]


async def register_worker(pool: Pool, worker: UUID, host: str, pid: int, lease: float) -> None:
    await pool.execute(
        """insert into workers (id, host, pid, lease_until)
           values ($1, $2, $3, clock_timestamp() + make_interval(secs => $4))""",
        worker, host, pid, lease,
    )  # fmt: skip


async def renew_lease(pool: Pool, worker: UUID, lease: float) -> Fence | None:
    """The time, and the latest turn. None when the worker has been declared dead."""
    row = await pool.fetchrow(
        """update workers set lease_until = clock_timestamp() + make_interval(secs => $2)
           where id = $1 and not dead returning clock_timestamp() as now, turn""",
        worker, lease,
    )  # fmt: skip
    return Fence(row["now"], row["turn"]) if row else None


async def bury_expired_workers(pool: Pool) -> int:
    """Declare workers dead whose lease is over and free their runs, in one statement. Returns how many runs came free.

    Waits for nobody: a worker in the middle of a commit is skipped, and looked at again a second later.
    """
    freed = await pool.fetch(
        """with expired as (
               select id from workers where not dead and lease_until < clock_timestamp()
               order by id for update skip locked
           ), buried as (
               update workers set dead = true from expired where workers.id = expired.id returning workers.id
           )
           update runs set owner = null, wake_at = clock_timestamp() from buried where runs.owner = buried.id
           returning runs.id"""
    )
    return len(freed)


async def retire_worker(pool: Pool, worker: UUID) -> None:
    """The same, of oneself: whatever it still owns is free."""
    await pool.execute(
        """with gone as (update workers set dead = true where id = $1 and not dead returning id)
           update runs set owner = null, wake_at = clock_timestamp() from gone where runs.owner = gone.id""",
        worker,
    )


async def what_waits(pool: Pool, worker: UUID) -> tuple[bool, list[UUID]]:
    """Is there a run to claim, and which of the worker's own have orders?"""
    row = await pool.fetchrow(
        """select exists (select from runs where owner is null and wake_at <= clock_timestamp()) as claimable,
                  array(select distinct s.run_id from signals s join runs r on r.id = s.run_id
                        where r.owner = $1) as ordered""",
        worker,
    )
    assert row is not None, "a select without from has a row"
    return row["claimable"], row["ordered"]


async def fence(connection: Connection, worker: UUID) -> Fence | None:
    """Hold off whoever wants to declare the worker dead until this transaction ends. None: it has happened."""
    row = await connection.fetchrow(
        """update workers set turn = turn + 1 where id = $1 and not dead and lease_until > clock_timestamp()
           returning clock_timestamp() as now, turn""",
        worker,
    )
    return Fence(row["now"], row["turn"]) if row else None


async def was_committed(connection: Connection, worker: UUID, turn: int) -> bool:
    """Waits while the transaction of that turn is open.

    No question for pg_xact_status: a crash forgets the ids of transactions that never got to the disk, and gives them away
    again.
    """
    found = "select turn >= $2 from workers where id = $1 for update"
    return bool(await connection.fetchval(found, worker, turn))


async def claim_runs(
    connection: Connection, worker: UUID, limit: int, waited: float, only: Collection[UUID] | None = None
) -> list[asyncpg.Record]:
    """Take up to `limit` runs that want attention since `waited` seconds, and all with orders: those cost no slot."""
    return await connection.fetch(
        f"""with ordered as materialized (
                select id from runs
                where owner is null and wake_at <= clock_timestamp() and id in (select run_id from signals)
                    and ($4::uuid[] is null or id = any($4))
                order by wake_at limit 64 for update skip locked
            ), due as materialized (
                select id from runs where owner is null and wake_at <= clock_timestamp() - make_interval(secs => $3)
                    and ($4::uuid[] is null or id = any($4))
                order by wake_at limit $2 for update skip locked
            ), taken as (select id from ordered union select id from due)
            update runs r set owner = $1, epoch = r.epoch + 1, wake_at = null, goes_on = false,
                updated_at = clock_timestamp()
            from taken where r.id = taken.id
            returning {RUN_COLUMNS}""",
        worker, limit, waited, None if only is None else list(only),
    )  # fmt: skip


async def nodes_of_runs(connection: Connection, runs: Collection[UUID]) -> list[asyncpg.Record]:
    """`ordered` in each row says whether any of the runs has an order."""
    return await connection.fetch(
        f"""select {NODE_COLUMNS}, exists (select from signals where signals.run_id = any($1)) as ordered
            from nodes where run_id = any($1) order by run_id, position""",
        list(runs),
    )


async def set_aside(connection: Connection, worker: UUID, run: UUID, seconds: float) -> None:
    """Give a run away that we can make nothing of, ours or nobody's, and let nobody try again at once."""
    await connection.execute(
        """update runs set owner = null, wake_at = clock_timestamp() + make_interval(secs => $3)
           where id = $2 and (owner is null or owner = $1)""",
        worker, run, seconds,
    )  # fmt: skip


async def hold_for_orders(connection: Connection, worker: UUID, runs: Collection[UUID]) -> None:
    """Lock runs, so that all orders given so far can be seen and no other comes in before the commit."""
    hold = "update runs set wake_at = null, goes_on = false where id = any($1) and owner = $2"
    await connection.execute(hold, list(runs), worker)


async def take_orders(connection: Connection, worker: UUID, runs: Collection[UUID]) -> list[Order]:
    """The oldest order of each of these runs, or all verdicts up to the first that is none, off the table and in their
    order. What may have broken a turn before comes alone. The runs must be locked: by `hold_for_orders` or a claim.

    It is a statement of its own because its snapshot must be younger than the locks.
    """
    records = await connection.fetch(
        """with waiting as (
               select s.id, row_number() over run as place, count(*) over (partition by s.run_id) as waiting,
                      count(*) filter (where s.kind <> 'verdict' or s.tries > 0) over run as others
               from signals s join runs r on r.id = s.run_id where s.run_id = any($1) and r.owner = $2
               window run as (partition by s.run_id order by s.id)
           )
           delete from signals s using waiting w
           where s.id = w.id and (w.place = 1 or w.others = 0 and w.place <= $3)
           returning s.run_id, s.kind, s.payload, w.waiting, s.id""",
        list(runs), worker, MOST_VERDICTS,
    )  # fmt: skip
    taken = Counter(record["run_id"] for record in records)
    return [
        Order(run, kind, payload, more=waiting > taken[run])
        for run, kind, payload, waiting, _ in sorted(records, key=lambda record: record["id"])
    ]


async def move_outputs_to_attempts(connection: Connection, nodes: Collection[UUID]) -> None:
    """Of nodes that run again: what they had produced stays with the attempt that produced it."""
    if nodes:
        await connection.execute(
            """with kept as (
                   update attempts a set output = n.output, output_ref = n.output_ref, output_size = n.output_size,
                       checksum = n.checksum
                   from nodes n where n.id = any($1) and n.checksum is not null and a.node_id = n.id
                       and a.number = (select max(number) from attempts where node_id = n.id and status = 'succeeded')
               )
               update nodes set output = null, output_ref = null, output_size = null, checksum = null,
                   duration_ms = null, reused_from = null, verdict = null
               where id = any($1)""",
            list(nodes),
        )


async def save_efforts(connection: Connection, closed: Iterable[Closed]) -> None:
    """What attempts took, also added up in their nodes; what the successful ones produced becomes the node's output."""
    efforts = [c for c in closed if c.output or c.effort.spend.requests]
    if not efforts:
        return
    await connection.execute(
        """with x as materialized (
               select * from unnest($1::uuid[], $2::int[], $3::text[], $4::bigint[], $5::bigint[], $6::int[],
                                    $7::numeric[], $8::int[], $9::int[], $10::int[], $11::text[], $12::text[],
                                    $13::jsonb[], $14::bigint[], $15::text[])
                   as x (node_id, number, model, prompt_tokens, completion_tokens, requests, cost_usd, estimated,
                         unpriced, duration_ms, requested, output, output_ref, output_size, checksum)
           ), tried as (
               update attempts a set model = x.model, prompt_tokens = x.prompt_tokens, requests = x.requests,
                   completion_tokens = x.completion_tokens, cost_usd = x.cost_usd, duration_ms = x.duration_ms,
                   requested = x.requested, estimated_calls = x.estimated, unpriced_calls = x.unpriced
               from x where a.node_id = x.node_id and a.number = x.number
           )
           update nodes n set model = coalesce(x.model, n.model), duration_ms = x.duration_ms,
               prompt_tokens = n.prompt_tokens + x.prompt_tokens, requests = n.requests + x.requests,
               completion_tokens = n.completion_tokens + x.completion_tokens,
               cost_usd = coalesce(n.cost_usd, 0) + x.cost_usd, estimated_calls = n.estimated_calls + x.estimated,
               unpriced_calls = n.unpriced_calls + x.unpriced,
               output = coalesce(x.output, n.output), output_ref = coalesce(x.output_ref, n.output_ref),
               output_size = coalesce(x.output_size, n.output_size), checksum = coalesce(x.checksum, n.checksum)
           from x where n.id = x.node_id""",
        *columns([(c.node.id, c.number, *_effort(c), *_output(c.output)) for c in efforts], 15),
    )


async def save_sidecars(connection: Connection, sidecars: Sequence[Sidecar]) -> None:
    """A call's first account stands: it must not fail the node when a call that was canceled is told of twice."""
    if sidecars:
        await connection.execute(
            """insert into sidecars (run_id, node_id, attempt, call, document)
               select * from unnest($1::uuid[], $2::uuid[], $3::int[], $4::int[], $5::jsonb[])
               on conflict (node_id, attempt, call) do nothing""",
            *columns(sidecars, 5),
        )


def numbered(run: UUID, node: UUID, attempt: int, documents: Iterable[dict[str, Any]]) -> list[Sidecar]:
    """The sidecars of one attempt, in the order of its calls."""
    return [Sidecar(run, node, attempt, call, document) for call, document in enumerate(documents, start=1)]


async def outputs_of(pool: Pool, run: UUID, keys: Collection[str]) -> list[asyncpg.Record]:
    """key, title, opening, size in bytes and checksum of what these nodes produced, in plan order."""
    return await pool.fetch(
        """select key, title, output, output_size, checksum from nodes
           where run_id = $1 and key = any($2) and status = 'completed' and output is not null order by position""",
        run, list(keys),
    )  # fmt: skip


def _effort(closed: Closed) -> tuple[Any, ...]:
    effort, spend = closed.effort, closed.effort.spend
    tokens = (spend.prompt_tokens, spend.completion_tokens)
    cost = (spend.cost, spend.estimated, spend.unpriced)
    return (effort.model, *tokens, spend.requests, *cost, effort.duration_ms, effort.requested)


def _output(output: Output | None) -> tuple[Any, ...]:
    if output is None:
        return (None, None, None, None)
    return (output.text, output.ref.model_dump() if output.ref else None, output.size, output.checksum)


def columns(rows: Sequence[tuple[Any, ...]], width: int) -> Iterable[Sequence[Any]]:
    """Rows as the arrays that unnest() takes."""
    return zip(*rows, strict=True) if rows else ((),) * width
