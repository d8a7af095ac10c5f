"""The SQL of a turn in one statement: moves and messages, and the fence when the statement is the whole transaction."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from chassis import outbox
from chassis.outbox import Batch, Entry, Outgoing
from chassis.postgres import Connection
from services.executor.engine.store import Fence, Moves, moving, values_of

#: The expected number makes it sure that this is the turn after the one by which time is reckoned. Whoever finds no row
#: here writes nothing: all that follows asks for it.
FENCED = "exists (select from fence)"
#: An order holds its run before it writes into the story: taken the other way round, the two would deadlock.
RUNS_FIRST = "(select count(*) from led) >= 0"
TURN = f"""
with fence as (
    update workers set turn = $32 where id = $1 and not dead and lease_until > clock_timestamp() and turn = $32 - 1
    returning clock_timestamp() as now, turn
), {moving(FENCED)}, {outbox.writing(33, f"{FENCED} and {RUNS_FIRST}")}
select fence.now, fence.turn, batches.ids, last.told from fence, batches, last
"""
WITHIN = f"with {moving()}, {outbox.writing(32, RUNS_FIRST)} select batches.ids, last.told from batches, last"


async def save_within(
    connection: Connection, worker: UUID, now: datetime, moves: Moves, messages: list[Entry]
) -> list[Batch]:
    """In a transaction that has passed the fence."""
    outgoing = Outgoing(messages)
    row = await connection.fetchrow(WITHIN, *values_of(worker, now, moves), *outgoing.values)
    assert row is not None, "a select of aggregates has a row"
    return outgoing.batches(row["ids"], row["told"])


async def save(
    connection: Connection, worker: UUID, number: int, now: datetime, moves: Moves, messages: list[Entry]
) -> tuple[Fence, list[Batch]] | None:
    """None when the worker's lease is over, or its last turn was another: then nothing was written."""
    outgoing = Outgoing(messages)
    row = await connection.fetchrow(TURN, *values_of(worker, now, moves), number, *outgoing.values)
    return (Fence(row["now"], row["turn"]), outgoing.batches(row["ids"], row["told"])) if row else None
