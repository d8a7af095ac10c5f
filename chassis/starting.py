"""The start of a service: waits a while for what it stands on, and says in one line what it waits for or why it gives up."""

from __future__ import annotations

import asyncio

import asyncpg
import structlog

from chassis.bus import Bus
from chassis.postgres import CONNECTION_LOST, Pool, create_pool
from chassis.settings import BadSettings, ServiceSettings
from contracts.errors import FluidcrewError

log = structlog.get_logger(__name__)

PATIENCE = 30.0  # seconds; whoever supervises the process starts it again
PAUSE = 0.5

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
    deadline = clock() + PATIENCE
    while True:
        try:
            return await create_pool(url, name, size=settings.database_pool_size)
        except REFUSED as error:
            raise BadSettings(f"DATABASE_URL: {error}") from error
        except (*CONNECTION_LOST, asyncpg.TooManyConnectionsError) as error:
            if clock() > deadline:
                raise NotThere(f"the database of DATABASE_URL did not answer for {PATIENCE:g} s: {error}") from error
            log.warning("service.waits_for_database", error=str(error) or repr(error))
        await asyncio.sleep(PAUSE)


async def connection(bus: Bus) -> None:
    """Connect the bus. Raises NotThere when it stays away."""
    try:
        async with asyncio.timeout(PATIENCE):
            await bus.connect()
    except TimeoutError as error:
        raise NotThere(f"the bus of NATS_URL did not answer for {PATIENCE:g} s: {bus.last_error!r}") from error
