"""The one writer of this process: takes what has arrived, works it out, writes it in one transaction, then lets it act."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from itertools import groupby
from uuid import UUID

import structlog
from prometheus_client import Counter, Gauge

from chassis import telemetry
from chassis.postgres import Connection
from chassis.relay import Relay
from contracts.errors import FluidcrewError
from services.executor.domain.run import ReviewRules
from services.executor.engine import store
from services.executor.engine.at_once.prepared import prepared
from services.executor.engine.claims import rebuilt
from services.executor.engine.inbox import Batch, Inbox, Report
from services.executor.engine.leases import Lease
from services.executor.engine.owner import Owner
from services.executor.engine.patience import Patience
from services.executor.engine.refused import REFUSED, Refusals
from services.executor.engine.turn import Turn
from services.executor.engine.writing import write

log = structlog.get_logger(__name__)

TURNS = Counter("executor_turns_total", "Transactions of the committer; attempts per turn is its batching")
ATTEMPTS = Counter("executor_attempts_total", "Attempts at nodes that ended", ["status"])
RUNS_OWNED = Gauge("executor_runs_owned", "Runs that this process moves")

UNREADABLE_REST = 60.0  # seconds until a run that cannot be rebuilt is tried again


class Fenced(FluidcrewError):
    """This process was declared dead; whatever it owned belongs to others."""


class Committer:
    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection]],
        lease: Lease,
        inbox: Inbox,
        owner: Owner,
        relay: Relay,
        review: ReviewRules,
    ) -> None:
        self._connect = connect
        self._connection: Connection | None = None
        self._lease = lease
        self._inbox = inbox
        self._owner = owner
        self._relay = relay
        self._review = review
        self._unclear: Turn | None = None
        self._working: Turn | None = None
        self._clock = lease.clock
        self.on_short_of_money: Callable[[], None] = lambda: None
        self.on_void: Callable[[Report], None]
        self.on_broken_order: Callable[[UUID, Exception], Awaitable[None]]
        self._publishing: asyncio.Task[None] | None = None
        self._refusals = Refusals(owner, self._commit, self._set_aside)

    async def run(self) -> None:
        """Turn after turn, for ever."""
        try:
            while True:
                await self._commit(await self._inbox.take())
        finally:
            if self._connection is not None:
                self._connection.terminate()

    async def _commit(self, batch: Batch) -> None:
        """Until the batch is in the database, divided down to what is wrong with it, or no longer ours to write."""
        patience = Patience()
        while True:
            try:
                return self._act(await self._transact(batch))
            except Fenced:
                return await self._start_over()
            except REFUSED as error:
                return await self._divide(batch, error)
            except store.TROUBLE as error:
                self._disconnect()
                await patience.wait("committer.waits", error)
            except Exception as error:  # noqa: BLE001  # a bug; nothing is dropped before its culprit is found
                return await self._divide(batch, error)

    # one transaction

    async def _transact(self, batch: Batch) -> Turn:
        self._working = None
        connection = await self._connected()
        # a hung connection answers no rollback either: beyond the lease it is broken off, whatever it does
        guard = asyncio.get_running_loop().call_later(self._lease.seconds, connection.terminate)
        try:
            if (turn := await self._at_once(connection, batch)) is None:
                async with connection.transaction():
                    if (turn := await self._resolved(connection)) is None:
                        turn = await self._worked_out(connection, batch)
                        await write(connection, self._lease.worker, turn)
                        self._unclear = turn
        finally:
            guard.cancel()
        self._unclear = None
        return turn

    async def _at_once(self, connection: Connection, batch: Batch) -> Turn | None:
        """Most turns bring results that are written by the turn's own statement, and start successors: nothing is to be
        read for that. Round trips are most of what a small turn takes."""
        fence = self._clock.expected()
        if self._unclear is not None or fence is None:
            return None
        ready = prepared(self._owner, batch, fence, self._review)
        if ready is None:
            return None
        turn = self._working = self._unclear = ready.turn
        saved = await ready.save(connection, self._lease.worker)
        self._unclear = None
        if saved is None:
            self._clock.forget()  # the slow way says why
            return None
        self._clock.told(saved[0])
        turn.told = saved[1]
        return turn

    async def _resolved(self, connection: Connection) -> Turn | None:
        """The turn whose commit was cut off, if it turns out to have been committed.

        The lock on our row lasts as long as the transaction that works the turn out anew: a statement that was sent and has
        not begun finds its number taken then. Until that is committed, the turn stays unclear.
        """
        if (turn := self._unclear) is None:
            return None
        return turn if await store.was_committed(connection, self._lease.worker, turn.number) else None

    async def _worked_out(self, connection: Connection, batch: Batch) -> Turn:
        fence = await store.fence(connection, self._lease.worker)
        if fence is None:
            raise Fenced
        self._clock.told(fence)
        owner = self._owner
        turn = self._working = Turn(owner.held, fence, owner.free_slots(), owner.doorman.gate(fence.now, owner.held))
        for report in batch.reports:
            turn.take_in(report)
        if ordered := [run for run in batch.ordered if run in owner.held]:
            await store.hold_for_orders(connection, self._lease.worker, ordered)
            turn.obey(await store.take_orders(connection, self._lease.worker, ordered))
        waiting = dict.fromkeys(owner.hungry)
        if owner.may_start():
            due = [run_id for run_id in waiting if batch.concerns(run_id)]
            await self._start(connection, turn, [*due, *turn.hungry])
            if batch.claim or batch.new or (batch.only is None and owner.wants_more and turn.free > 0):
                await self._claim(connection, turn, batch.only)
            waiting = {run_id: None for run_id in waiting if not batch.concerns(run_id)}
        turn.hungry |= waiting
        turn.let_go(batch.quiet)
        return turn

    async def _claim(self, connection: Connection, turn: Turn, only: Collection[UUID] | None) -> None:
        """As many runs as we can serve, and those with orders: another executor may serve the rest."""
        appetite = self._owner.appetite(turn.free)
        rows = await store.claim_runs(connection, self._lease.worker, *appetite, only)
        turn.more_to_claim = only is not None or len(rows) >= appetite.runs
        if not rows:
            return
        nodes = await store.nodes_of_runs(connection, [row["id"] for row in rows])
        by_run = {run: list(group) for run, group in groupby(nodes, key=lambda n: n["run_id"])}
        for row in rows:
            try:
                run, brief = rebuilt(row, by_run.get(row["id"], []), self._review)
                turn.adopt(run, brief)
            except Exception as error:
                log.exception("run.unreadable", run_id=str(row["id"]))
                telemetry.report(error, run_id=str(row["id"]))
                turn.changes.pop(row["id"], None)
                await store.set_aside(connection, self._lease.worker, row["id"], UNREADABLE_REST)
        claimed = [row["id"] for row in rows if row["id"] in turn.changes]
        if not nodes or nodes[0]["ordered"]:
            turn.obey(await store.take_orders(connection, self._lease.worker, claimed))
        await self._start(connection, turn, list(turn.hungry))

    async def _start(self, connection: Connection, turn: Turn, runs: Sequence[UUID]) -> None:
        if turn.gate is not None:
            await turn.gate.prepare(connection, turn.callers(runs))
        turn.start_ready(runs)

    # after the commit

    def _act(self, turn: Turn) -> None:
        self._owner.take_over(turn)
        if turn.gate is not None:
            turn.gate.opened()
        if turn.waits:
            self.on_short_of_money()
        for report in turn.void:
            self.on_void(report)
        TURNS.inc()
        RUNS_OWNED.set(len(self._owner.held))
        for change in turn.changes.values():
            for closed in change.draft.closed:
                ATTEMPTS.labels(closed.status).inc()
        # a bus that takes nothing must not hold up the next turn: what is not published now, the sweeper publishes
        if turn.told and (self._publishing is None or self._publishing.done()):
            self._publishing = asyncio.create_task(self._publish(turn))

    async def _publish(self, turn: Turn) -> None:
        try:
            await self._relay.hand_over(turn.told)
        except Exception:  # the rows are committed: the sweeper takes what is left of them
            log.exception("committer.publish_failed")

    async def _start_over(self) -> None:
        """Begin again as a new worker, owning nothing."""
        log.error("committer.fenced", worker=str(self._lease.worker), runs=len(self._owner.held))
        self._owner.forget_everything()
        self._clock.forget()
        await self._lease.enter()
        self._inbox.look_around()

    async def _divide(self, batch: Batch, error: Exception) -> None:
        self._unclear = None
        changed = self._working.changes if self._working is not None else ()
        await self._refusals.divide(batch, changed, error)

    async def _set_aside(self, run_id: UUID, error: Exception | None) -> None:
        """`error`: what the run's orders may be to blame for."""
        try:
            async with asyncio.timeout(self._lease.seconds):
                await store.set_aside(await self._connected(), self._lease.worker, run_id, UNREADABLE_REST)
        except store.TROUBLE:
            self._disconnect()
            raise
        if error is not None:
            await self.on_broken_order(run_id, error)

    # the connection

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._connect()
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
