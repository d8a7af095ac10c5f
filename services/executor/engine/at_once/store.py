"""The SQL of a turn in one statement: moves and messages, and the fence when the statement is the whole transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from chassis import outbox
from chassis.outbox import Batch, Entry, Outgoing
from chassis.postgres import Connection
from services.executor.domain.run import Closed, Node, Opened, Run
from services.executor.domain.status import NODE_FINAL, RUN_FINAL
from services.executor.engine.signals import REOPENING
from services.executor.engine.store import Fence, columns

#: of the row `r` of runs and what it becomes, `x`; $31 are the final states
IS_AS_WANTED = """(x.status = any($31::text[]) or r.wanted = 'pause' and x.status = 'paused'
    or r.wanted = 'run' and x.status = 'running' and x.pause_reasons = '')"""
#: That of a run which is being claimed only says that it may be.
WOKEN_AT = "case when r.owner = $1 then r.wake_at end"
#: A statement that waits for the row reads it anew, but not the signals: an order that came in meanwhile has set `wake_at`.
HAS_NO_ORDERS = f"({WOKEN_AT} is null and not exists (select from signals s where s.run_id = r.id))"
#: An order that makes the run go on may wait. Until its owner has read it, no other run of the task may start. One that
#: came in while this statement waited for the row has set `goes_on`.
MAY_GO_ON = f"""(x.status = any($31::text[]) and x.status <> 'canceled' and (r.goes_on or exists (select from signals s
    where s.run_id = r.id and s.kind in ({", ".join(f"'{kind}'" for kind in sorted(REOPENING))}))))"""


class Moves(NamedTuple):
    """What a turn changes. Runs come with whether they are given away, and when they want to be claimed again then.

    Attempts of nodes that nobody works on are written once, when they end (`walked`): an attempt is known from its
    beginning because it may cost money. Of one that got lost, only its number is known.
    """

    nodes: list[Node]
    opened: list[tuple[Run, Opened]]
    closed: list[Closed]
    walked: list[tuple[Run, Closed]]
    runs: list[tuple[Run, bool, datetime | None]]


def moving(only_if: str = "true", fresh: str = "false") -> str:
    """Nodes, attempts and runs as common table expressions of one statement: a round trip each would be half of a small
    turn's time. Their values are those of `values_of`, and what uses them is below.

    A run's `wake_at` only ever moves nearer here: an order that came in meanwhile has set it, and must not be slept over.
    """
    return f"""moved as (
               update nodes n set status = x.status, attempt = x.attempt, failures = x.failures, losses = x.losses,
                   waits = x.waits, due_at = x.due_at, error = x.error, updated_at = $2,
                   pause_reasons = string_to_array(x.pause_reasons, E'\\n'), parked_on = null,
                   started_at = case when x.status = 'running' then $2 else n.started_at end,
                   ended_at = case when x.status = any($3::text[]) then $2 end
               from unnest($4::uuid[], $5::text[], $6::int[], $7::int[], $8::int[], $9::timestamptz[], $10::text[],
                           $11::int[], $12::text[])
                   as x (id, status, attempt, failures, losses, due_at, error, waits, pause_reasons)
               where n.id = x.id and {only_if}
           ), opened as (
               insert into attempts (node_id, number, run_id, company_id, worker_id, started_at)
               select x.node_id, x.number, x.run_id, x.company_id, $1, $2
               from unnest($13::uuid[], $14::int[], $15::uuid[], $16::text[]) as x (node_id, number, run_id, company_id)
               where {only_if}
           ), closed as (
               update attempts a set status = x.status, error = x.error, ended_at = $2
               from unnest($17::uuid[], $18::int[], $19::text[], $20::text[]) as x (node_id, number, status, error)
               where a.node_id = x.node_id and a.number = x.number and {only_if}
           ), led as (
               update runs r set status = x.status, pause_reasons = string_to_array(x.pause_reasons, E'\\n'),
                   error = x.error, time_left = x.time_left, deadline_at = x.deadline_at, started_at = x.started_at,
                   ended_at = x.ended_at, owner = case when x.released then null else $1 end,
                   control_effective_at = case when r.control_asked_at is null or r.control_effective_at is not null
                       then r.control_effective_at
                       when {IS_AS_WANTED} and {HAS_NO_ORDERS} then $2 end,
                   reopening = {MAY_GO_ON},
                   epoch = r.epoch + (r.owner is null)::int, wake_at = least({WOKEN_AT}, x.wake_at), updated_at = $2
               from unnest($21::uuid[], $22::text[], $23::text[], $24::text[], $25::interval[], $26::timestamptz[],
                           $27::timestamptz[], $28::timestamptz[], $29::bool[], $30::timestamptz[])
                   as x (id, status, pause_reasons, error, time_left, deadline_at, started_at, ended_at, released,
                         wake_at)
               where r.id = x.id and (r.owner = $1 or {fresh}) and {only_if}
               returning r.id
           ), walked as (
               insert into attempts (node_id, number, run_id, company_id, worker_id, status, error, started_at, ended_at)
               select x.node_id, x.number, x.run_id, x.company_id, $1, x.status, x.error,
                   coalesce((select n.started_at from nodes n where n.id = x.node_id), $2), $2
               from unnest($32::uuid[], $33::int[], $34::uuid[], $35::text[], $36::text[], $37::text[])
                   as x (node_id, number, run_id, company_id, status, error)
               where {only_if}
               on conflict (node_id, number) do update
                   set status = excluded.status, error = excluded.error, ended_at = excluded.ended_at
           )"""


#: The expected number makes it sure that this is the turn after the one by which time is reckoned. Whoever finds no row
#: here writes nothing: all that follows asks for it.
FENCED = "exists (select from fence)"
#: An order holds its run before it writes into the story: taken the other way round, the two would deadlock.
RUNS_FIRST = "(select count(*) from led) >= 0"
NUMBER = 38  # the parameter behind those of `moving`: of a whole turn, its number
#: Runs are claimed by the way while they are as they were inserted: any order, and any other owner, has touched the row.
FRESH = NUMBER + 1
MESSAGES = NUMBER + 3
TURN = f"""
with fresh as materialized (
    select r.id from runs r, unnest(${FRESH}::uuid[], ${FRESH + 1}::xid[]) as x (id, version)
    where r.id = x.id and r.xmin = x.version and r.owner is null for update of r skip locked
), fence as (
    update workers set turn = ${NUMBER}
    where id = $1 and not dead and lease_until > clock_timestamp() and turn = ${NUMBER} - 1
        and (select count(*) from fresh) = cardinality(${FRESH}::uuid[])
    returning clock_timestamp() as now, turn
), {moving(FENCED, "r.id in (select id from fresh)")}, {outbox.writing(MESSAGES, f"{FENCED} and {RUNS_FIRST}")}
select fence.now, fence.turn, batches.ids, last.told from fence, batches, last
"""
WITHIN = f"with {moving()}, {outbox.writing(NUMBER, RUNS_FIRST)} select batches.ids, last.told from batches, last"


async def save_within(
    connection: Connection, worker: UUID, now: datetime, moves: Moves, messages: list[Entry]
) -> list[Batch]:
    """In a transaction that has passed the fence."""
    outgoing = Outgoing(messages)
    row = await connection.fetchrow(WITHIN, *values_of(worker, now, moves), *outgoing.values)
    assert row is not None, "a select of aggregates has a row"
    return outgoing.batches(row["ids"], row["told"])


async def save(
    connection: Connection,
    worker: UUID,
    number: int,
    now: datetime,
    moves: Moves,
    messages: list[Entry],
    fresh: Sequence[tuple[UUID, int]] = (),
) -> tuple[Fence, list[Batch]] | None:
    """None when the worker's lease is over, its last turn was another, or one of the runs that it claims, `fresh` with the
    transaction that wrote them, was touched by somebody: then nothing was written."""
    outgoing = Outgoing(messages)
    values = (*values_of(worker, now, moves), number, *columns(fresh, 2), *outgoing.values)
    row = await connection.fetchrow(TURN, *values)
    return (Fence(row["now"], row["turn"]), outgoing.batches(row["ids"], row["told"])) if row else None


def values_of(worker: UUID, now: datetime, moves: Moves) -> tuple[Any, ...]:
    return (
        worker,
        now,
        list(NODE_FINAL),
        *columns([_node(node) for node in moves.nodes], 9),
        *columns([(o.node.id, o.number, run.id, run.company) for run, o in moves.opened], 4),
        *columns([(c.node.id, c.number, c.status, c.error) for c in moves.closed], 4),
        *columns([_run(*given) for given in moves.runs], 10),
        list(RUN_FINAL),
        *columns([(c.node.id, c.number, r.id, r.company, c.status, c.error) for r, c in moves.walked], 6),
    )


def _node(node: Node) -> tuple[Any, ...]:
    counts = (node.attempt, node.failures, node.losses)
    return (node.plan.id, node.status, *counts, node.due_at, node.error, node.waits, _joined(node.pause_reasons))


def _joined(reasons: Iterable[str]) -> str:
    """unnest() would take arrays of arrays apart."""
    return "\n".join(sorted(reasons))


def _run(run: Run, released: bool, wake_at: datetime | None) -> tuple[Any, ...]:
    clock = (run.time_left, run.deadline, run.started_at, run.ended_at)
    return (run.id, run.status, _joined(run.pause_reasons), run.error, *clock, released, wake_at)
