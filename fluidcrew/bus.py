"""Connects to the bus as one of its users, and says what to do when that does not work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress

import nats
from nats.aio.client import Client
from nats.errors import Error

from chassis.nats_address import NatsAddress
from contracts.permissions import inbox_prefix
from fluidcrew.exits import Exit, Halt
from fluidcrew.surroundings import without_credentials

CONNECT_SECONDS = 3
OnError = Callable[[Exception], Awaitable[None]]


@asynccontextmanager
async def connected(url: str, user: str, on_error: OnError | None = None) -> AsyncIterator[Client]:
    """A connection that comes back by itself for as long as the block lasts."""
    nc = await _connect(url, user, on_error or _ignore)
    try:
        yield nc
    finally:
        with suppress(Error, TimeoutError, TypeError, OSError):  # nats-py may stumble over a server that is gone
            async with asyncio.timeout(2):
                await nc.close()


async def _connect(url: str, user: str, on_error: OnError) -> Client:
    await _look(url)
    address = NatsAddress.of(url)
    return await nats.connect(
        address.servers,
        **address.login,
        name="fluidcrew-cli",
        inbox_prefix=inbox_prefix(user).encode(),
        connect_timeout=CONNECT_SECONDS,
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.25,
        error_cb=on_error,
    )


async def _look(url: str) -> None:
    """nats-py begins as patiently as it goes on; a person wants to know at once. Raises Halt when nobody lets us in."""
    said: list[Exception] = []

    async def remember(error: Exception) -> None:
        said.append(error)

    address = NatsAddress.of(url)
    brief = {"connect_timeout": CONNECT_SECONDS, "max_reconnect_attempts": 1, "reconnect_time_wait": 0}
    try:
        nc = await nats.connect(address.servers, **address.login, error_cb=remember, **brief)
        await nc.close()
    except (Error, OSError, TimeoutError, ValueError) as error:
        raise _unreachable(url, [*said, error]) from error


def _unreachable(url: str, errors: Sequence[Exception]) -> Halt:
    where = without_credentials(url)
    if any("authorization" in str(error).lower() for error in errors):
        return Halt(Exit.REFUSED, f"the bus at {where} refuses the login: correct the user and password in NATS_URL")
    return Halt(Exit.UNREACHABLE, f"no bus answers at {where}: start it with `fluidcrew up`, or correct NATS_URL")


async def _ignore(_: Exception) -> None:
    """What matters is raised where it was asked for."""
