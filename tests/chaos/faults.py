"""What is done to the stack: each fault by name, drawn by the seed, noted in the history with whom it costs what."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack

from tests.chaos.stage import Stage
from tests.chaos.world import EXECUTORS, GATEWAYS, REVIEWERS, SERVICES

Fault = Callable[[Stage], Awaitable[None]]
LEASE = 2.0  # seconds; as tests.system.defaults sets it


def killed(*names: str, executors: int = 0, reviewers: int = 0) -> Fault:
    """kill -9; back after a moment of any length."""

    async def fault(stage: Stage) -> None:
        async with stage.fault(f"kill {' '.join(names)}", executors, reviewers):
            stage.world.kill(*names)
            await asyncio.sleep(stage.rng.choice((0, 0, stage.rng.uniform(0, 0.7))))
            await stage.world.revive(*names)

    return fault


async def frozen_executor(stage: Stage) -> None:
    """Stopped for twice its lease: it wakes up with results that belong to somebody else by then."""
    name = stage.rng.choice(EXECUTORS)
    async with stage.fault(f"freeze {name}", executors=1):
        stage.world.freeze(name)
        try:
            await asyncio.sleep(2 * LEASE)
        finally:
            stage.world.thaw(name)


async def broker_rolled_back(stage: Stage) -> None:
    """The broker comes back with what its disk held some seconds ago, while nobody had read the rest."""
    async with stage.fault("roll the broker back"), unread(stage):
        await stage.world.photograph_the_broker()
        await asyncio.sleep(stage.rng.uniform(0.5, 1))
        await stage.world.roll_the_broker_back()


async def broker_wiped(stage: Stage) -> None:
    async with stage.fault("wipe the broker"), unread(stage):
        await asyncio.sleep(stage.rng.uniform(0.5, 1))
        await stage.world.wipe_the_broker()


async def woken_without_database(stage: Stage) -> None:
    """The planner finds what has gathered while it was stopped, and no database to write it to."""
    async with stage.fault("wake the planner without a database", executors=len(EXECUTORS)):
        stage.world.freeze("planner")
        await asyncio.sleep(stage.rng.uniform(0.5, 1))
        stage.world.kill("postgres")
        stage.world.thaw("planner")
        await asyncio.sleep(0.7)
        await stage.world.revive("postgres")


def unread(stage: Stage) -> AsyncExitStack:
    """Meanwhile no gateway projects: only the outboxes have what the broker is about to lose."""
    frozen = AsyncExitStack()
    for name in GATEWAYS:
        stage.world.freeze(name)
        frozen.callback(stage.world.thaw, name)
    return frozen


async def everything(stage: Stage) -> None:
    """All at once, as when the machine is switched off."""
    async with stage.fault("kill everything", executors=len(EXECUTORS)):
        stage.world.kill("nats", "postgres", "s3", *SERVICES)
        await stage.world.revive("nats", "postgres", "s3", *SERVICES)


ANY_SERVICE: tuple[Fault, ...] = tuple(
    killed(name, executors=name in EXECUTORS, reviewers=name in REVIEWERS) for name in SERVICES
)
NATS = killed("nats")
#: a database that is away for longer than a lease may cost every executor what it has in flight
POSTGRES = killed("postgres", executors=len(EXECUTORS))
OBJECT_STORE = killed("s3")

ALL: Mapping[str, tuple[Fault, ...]] = {
    "services": ANY_SERVICE,
    "nats": (NATS,),
    "postgres": (POSTGRES,),
    "woken": (woken_without_database,),
    "s3": (OBJECT_STORE,),
    "broker": (broker_rolled_back, broker_wiped),
    "frozen": (frozen_executor,),
    "everything": (everything,),
}
