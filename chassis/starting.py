"""The start of a service: waits a while for what it stands on, and says in one line what it waits for or why it gives up."""

from __future__ import annotations

import asyncio

import asyncpg

from chassis.bus import Bus
from chassis.outage import Outage
from chassis.pausing import ended
from chassis.postgres import CONNECTION_LOST, Pool, create_pool
from chassis.settings import BadSettings, ServiceSettings
from contracts.errors import FluidcrewError

PATIENCE = 30.0  # seconds; whoever supervises the process starts it again

REFUSED = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.exceptions.ClientConfigurationError,
)


class NotThere(FluidcrewError):
    """What the service stands on did not answer in time."""


async def database(name: str, settings: ServiceSettings) -> Pool:
    """The pool, once the database answers. Raises BadSettings when it refuses us, NotThere when it stays away."""
    url, clock = settings.database_url.get_secret_value(), asyncio.get_running_loop().time
    deadline, away = clock() + PATIENCE, Outage("service.database")
    while True:
        try:
            pool = await create_pool(url, name, size=settings.database_pool_size)
            away.over()
            return pool
        except REFUSED as error:
            raise BadSettings(f"DATABASE_URL: {error}") from error
        except CONNECTION_LOST as error:
            if clock() > deadline:
                raise NotThere(f"the database of DATABASE_URL did not answer for {PATIENCE:g} s: {error}") from error
            away.noticed(error)
        await asyncio.sleep(away.pause())


async def connection(bus: Bus) -> None:
    """Connect the bus. Raises NotThere when it stays away."""
    connecting = asyncio.create_task(bus.connect())
    try:
        await asyncio.wait({connecting}, timeout=PATIENCE)
    finally:  # also when it is told to end: nats-py would go on for ever
        await ended(connecting)
    if connecting.cancelled():
        raise NotThere(f"the bus of NATS_URL did not answer for {PATIENCE:g} s: {bus.last_error!r}")
    connecting.result()
