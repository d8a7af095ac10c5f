"""How an executor comes to be one: registered as soon as the database lets it, and ended by nothing but an order to stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from structlog.testing import capture_logs

from chassis.service import Chassis
from chassis.testing.eventually import eventually
from services.executor.engine.engine import Engine, Limits
from tests.executor.conftest import World
from tests.executor.test_ownership import engine_of


def another_engine(chassis: Chassis) -> Engine:
    """Of the same parts, and not at work yet."""
    first = engine_of(chassis)

    async def nobody_performs(_: object) -> None: ...

    return Engine(chassis.pool, first.committer._connect, chassis.relay, nobody_performs, first.owner.doorman, Limits())


@asynccontextmanager
async def refused(world: World, engine: Engine, stop: asyncio.Event) -> AsyncIterator[asyncio.Task[None]]:
    """It has begun, and the database has refused to register it; within, it goes on refusing."""
    await world.rows("alter table workers rename to nobody_finds_them")
    try:
        with capture_logs() as said:
            running = asyncio.create_task(engine.run(stop))
            told = lambda: running.done() or any(line["event"] == "worker.cannot_register" for line in said)  # noqa: E731
            await eventually(told, what="a refusal that is waited out")
        yield running
    finally:
        await world.rows("alter table nobody_finds_them rename to workers")


async def test_an_executor_whose_database_dies_while_it_starts_waits_for_it(world: World) -> None:
    """It used to end with its engine: the database was there when it began, and away a moment later."""
    stop = asyncio.Event()
    async with world.executor() as chassis:
        engine = another_engine(chassis)
        async with refused(world, engine, stop) as running:
            assert not running.done(), running
        await eventually(engine.lease.is_fresh, what="a registered executor")
        stop.set()
        async with asyncio.timeout(60):
            await running


async def test_an_executor_that_waits_to_be_registered_stops_at_once_when_told(world: World) -> None:
    stop = asyncio.Event()
    async with world.executor() as chassis, refused(world, another_engine(chassis), stop) as running:
        stop.set()
        async with asyncio.timeout(60):
            await running
