"""What a service makes of a database that goes away under it."""

from __future__ import annotations

from typing import Any

import pytest

from chassis.dead_letters import DeadLetters
from chassis.postgres import CONNECTION_LOST, connect, create_pool, create_reading_pool
from chassis.service import Chassis
from chassis.testing.eventually import eventually
from chassis.testing.servers import Database
from contracts import run_facts, streams
from contracts.envelope import Envelope
from contracts.errors import Code, Rejection
from tests.chassis.conftest import Start, fact, nothing

DYING_WORDS = b"SFATAL\0VFATAL\0C57P02\0Mterminating connection due to unexpected postmaster exit\0\0"


async def test_a_connection_that_heard_the_server_die_but_not_yet_hang_up_counts_as_lost(database: Database) -> None:
    """asyncpg raises an InternalClientError when a query begins between the last words and the end of the stream."""
    connection = await connect(database.url_for("planner"), "planner")
    try:
        connection._protocol.data_received(b"E" + (len(DYING_WORDS) + 4).to_bytes(4, "big") + DYING_WORDS)
        with pytest.raises(CONNECTION_LOST):
            await connection.fetchval("select 1")
    finally:
        connection.terminate()


async def test_only_in_a_pool_that_reads_a_session_stays_as_it_was_left(database: Database) -> None:
    """There, no statement waits for a second round trip; elsewhere, that one gives locks back."""
    for create, left in ((create_reading_pool, "7s"), (create_pool, "0")):
        async with await create(database.url_for("planner"), "planner", size=1) as pool:
            await pool.execute("set lock_timeout = '7s'")
            assert await pool.fetchval("show lock_timeout") == left


async def test_a_poison_message_outlives_a_database_that_is_away(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be buried then; neither is it lost, nor does the process end."""
    exits: list[int] = []
    monkeypatch.setattr("os._exit", exits.append)
    bury, gone = DeadLetters.bury, iter([ConnectionResetError("the database went away")])

    async def bury_later(self: DeadLetters, *arguments: Any, **more: Any) -> None:
        for error in gone:
            raise error
        await bury(self, *arguments, **more)

    monkeypatch.setattr(DeadLetters, "bury", bury_later)

    async def build(chassis: Chassis) -> None:
        async def refuse(message: run_facts.RunCompleted, envelope: Envelope) -> None:
            raise Rejection(Code.INVALID, "poison")

        chassis.bus.on(streams.PLANNER_RUNS, {run_facts.RunCompleted: refuse})

    async with start("planner", build) as consumer, start("executor", nothing) as emitter:
        async with emitter.uow.begin() as tx:
            tx.publish(fact())
        await eventually(lambda: buried(consumer), what="the dead letter")
    assert exits == []


async def buried(chassis: Chassis) -> bool:
    return bool((await chassis.dead_letters.list(10, 0)).total)
