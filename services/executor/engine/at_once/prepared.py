"""Turns for which nothing is to be read: worked out before the database is asked, and written in one statement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from chassis.outbox import Batch as OutboxBatch
from chassis.outbox import Entry, entries_of
from chassis.postgres import Connection
from services.executor.domain.run import ReviewRules
from services.executor.engine.at_once import store
from services.executor.engine.at_once.store import Moves
from services.executor.engine.claims import rebuilt
from services.executor.engine.inbox import Batch, is_plain
from services.executor.engine.owner import Owner
from services.executor.engine.store import Fence
from services.executor.engine.turn import Turn


class Prepared(NamedTuple):
    """A turn, and what is to be written of it. `fresh` are runs that it claims, with the transaction that wrote them."""

    turn: Turn
    moves: Moves
    messages: list[Entry]
    fresh: Sequence[tuple[UUID, int]]

    async def save(self, connection: Connection, worker: UUID) -> tuple[Fence, list[OutboxBatch]] | None:
        turn = self.turn
        return await store.save(connection, worker, turn.number, turn.now, self.moves, self.messages, self.fresh)


def prepared(owner: Owner, batch: Batch, fence: Fence, review: ReviewRules) -> Prepared | None:
    """None when something must be read first."""
    if not is_plain(batch) or not owner.may_start():
        return None
    turn = Turn(owner.held, fence, owner.free_slots(), owner.doorman.gate(fence.now, owner.held))
    room = owner.appetite(turn.free).runs if turn.free > 0 else 0
    new = [newcomer for newcomer in batch.new if newcomer.id not in owner.held]
    if turn.gate is not None or len(new) > room or (owner.wants_more and room > 0):
        return None
    for report in batch.reports:
        turn.take_in(report)
    for newcomer in new:
        turn.adopt(*rebuilt(*newcomer, review))
        turn.changes[newcomer.id].fresh = True
    turn.start_ready([*owner.hungry, *turn.hungry])
    turn.let_go(batch.quiet)
    if not turn.is_plain():
        return None
    fresh = [(newcomer.id, newcomer.row["xmin"]) for newcomer in new]
    return Prepared(turn, turn.moves(), entries_of("executor", turn.messages()), fresh)
