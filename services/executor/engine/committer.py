"""The one writer of this process: takes what has arrived, works it out, writes it in one transaction, then lets it act."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from itertools import groupby
from uuid import UUID

import asyncpg
import structlog
from prometheus_client import Counter, Gauge

from chassis import telemetry
from chassis.outbox import entries_of
from chassis.postgres import Connection
from chassis.relay import Relay
from contracts.errors import FluidcrewError
from services.executor.domain.run import ReviewRules
from services.executor.engine import store
from services.executor.engine.at_once import store as at_once
from services.executor.engine.at_once.clock import Clock
from services.executor.engine.claims import rebuilt
from services.executor.engine.inbox import Batch, Inbox, is_plain
from services.executor.engine.leases import Lease
from services.executor.engine.owner import Owner
from services.executor.engine.refused import LONGEST_PAUSE, Refusals
from services.executor.engine.reviews import store as reviews
from services.executor.engine.reviews.telling import complete
from services.executor.engine.turn import Turn
from services.executor.engine.weather import store as weather
from services.executor.spending.waits import store as waits

log = structlog.get_logger(__name__)

TURNS = Counter("executor_turns_total", "Transactions of the committer; attempts per turn is its batching")
ATTEMPTS = Counter("executor_attempts_total", "Attempts at nodes that ended", ["status"])
RUNS_OWNED = Gauge("executor_runs_owned", "Runs that this process moves")

#: the database says that what we write is wrong; any other trouble it has is waited for, and costs nobody a result
REFUSED = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.ProgramLimitExceededError)
SHORTEST_PAUSE = 0.05
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
        self._clock = Clock()
        self.on_short_of_money: Callable[[], None] = lambda: None
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
        pause = SHORTEST_PAUSE
        while True:
            try:
                return self._act(await self._transact(batch))
            except Fenced:
                return await self._start_over()
            except REFUSED as error:
                return await self._divide(batch, error)
            except store.TROUBLE as error:
                log.warning("committer.waits", error=repr(error), retry_in=pause)
                self._disconnect()
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
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
                        await self._write(connection, turn)
                        self._unclear = turn
        finally:
            guard.cancel()
        self._unclear = None
        return turn

    async def _at_once(self, connection: Connection, batch: Batch) -> Turn | None:
        """Most turns bring results that are written by the turn's own statement, and start successors: nothing is to be
        read for that. Round trips are most of what a small turn takes."""
        fence, owner = self._clock.expected(), self._owner
        if self._unclear is not None or fence is None or not is_plain(batch) or not owner.may_start():
            return None
        turn = self._turn(fence)
        if turn.gate is not None or (owner.wants_more and turn.free > 0):
            return None
        for report in batch.reports:
            turn.take_in(report)
        turn.start_ready([*owner.hungry, *turn.hungry])
        turn.let_go(batch.quiet)
        if not turn.is_plain():
            return None
        messages = entries_of("executor", turn.messages())
        self._unclear = turn
        saved = await at_once.save(connection, self._lease.worker, turn.number, turn.now, turn.moves(), messages)
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
        turn = self._turn(fence)
        for report in batch.reports:
            turn.take_in(report)
        if ordered := [run for run in batch.ordered if run in owner.held]:
            await store.hold_for_orders(connection, self._lease.worker, ordered)
            turn.obey(await store.take_orders(connection, self._lease.worker, ordered))
        waiting = dict.fromkeys(owner.hungry)
        if owner.may_start():
            due = [run_id for run_id in waiting if batch.concerns(run_id)]
            await self._start(connection, turn, [*due, *turn.hungry])
            if batch.claim or (batch.only is None and owner.wants_more and turn.free > 0):
                await self._claim(connection, turn, batch.only)
            waiting = {run_id: None for run_id in waiting if not batch.concerns(run_id)}
        turn.hungry |= waiting
        turn.let_go(batch.quiet)
        return turn

    def _turn(self, fence: store.Fence) -> Turn:
        owner = self._owner
        self._working = Turn(owner.held, fence, owner.free_slots(), owner.doorman.gate(fence.now, owner.held))
        return self._working

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

    async def _write(self, connection: Connection, turn: Turn) -> None:
        changes, moves = list(turn.changes.values()), turn.moves()
        if changes:
            await complete(connection, changes)
            messages = entries_of("executor", turn.messages())
            turn.told = await at_once.save_within(connection, self._lease.worker, turn.now, moves, messages)
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

    # after the commit

    def _act(self, turn: Turn) -> None:
        self._owner.take_over(turn)
        if turn.gate is not None:
            turn.gate.opened()
        if turn.waits:
            self.on_short_of_money()
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

    async def _set_aside(self, run_id: UUID) -> None:
        await store.set_aside(await self._connected(), self._lease.worker, run_id, UNREADABLE_REST)

    # the connection

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._connect()
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
