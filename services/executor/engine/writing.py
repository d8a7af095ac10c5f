"""All that a turn changes, in the transaction that has passed the fence."""

from __future__ import annotations

from uuid import UUID

from chassis.outbox import entries_of
from chassis.postgres import Connection
from services.executor.engine import store
from services.executor.engine.at_once import store as at_once
from services.executor.engine.reviews import store as reviews
from services.executor.engine.reviews.telling import complete
from services.executor.engine.turn import Turn
from services.executor.engine.weather import store as weather
from services.executor.spending.waits import store as waits


async def write(connection: Connection, worker: UUID, turn: Turn) -> None:
    changes, moves = list(turn.changes.values()), turn.moves()
    if changes:
        await complete(connection, changes)
        messages = entries_of("executor", turn.messages())
        turn.told = await at_once.save_within(connection, worker, turn.now, moves, messages)
    if parked := [(node.plan.id, node.parked_on) for node in moves.nodes if node.parked_on]:
        await weather.save_parked(connection, parked)
    if turn.gate is not None:
        await turn.gate.settle(connection)
    await store.save_efforts(connection, moves.closed)
    for late in (late for change in changes for late in change.late):
        await store.save_efforts(connection, [late])
    await reviews.save(connection, [change.draft for change in changes])
    await store.move_outputs_to_attempts(
        connection, [change.before.graph.plans[key].id for change in changes for key in change.draft.requeued]
    )
    await store.save_sidecars(connection, turn.sidecars)
    await waits.save_waits(connection, turn.waits)
