"""The pool of a service: its own schema first on the path, jsonb as Python objects, no statement without an end."""

from __future__ import annotations

import json
from typing import Any, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

Pool: TypeAlias = "asyncpg.Pool[Any]"
#: a connection of one's own, or one that a pool lent
Connection: TypeAlias = "asyncpg.Connection[Any] | PoolConnectionProxy[Any]"


class Unreachable(ConnectionError):
    """No connection to the server could be made: no route, no such host, no answer in time."""


#: What a loop outlives that has nothing to lose by trying again. Measured with servers killed, stopped, frozen and in
#: recovery under load (uvloop, asyncpg 0.32), all but the last two, which the protocol has for other deaths:
CONNECTION_LOST = (
    ConnectionError,  # refused, reset, "unexpected connection_lost() call", and Unreachable
    asyncpg.PostgresConnectionError,  # ConnectionDoesNotExistError: closed in the middle of an operation
    asyncpg.CannotConnectNowError,  # starting up, shutting down, in recovery, not yet consistent
    asyncpg.InternalClientError,  # "cannot switch to state 15": asked between the server's last words and its hanging up
    asyncpg.InterfaceError,  # of a closed connection; `server_is_away` tells them from the others
    TimeoutError,  # of a statement, while the server is frozen: it may as well be a slow statement
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
)


def server_is_away(error: BaseException) -> bool:
    """Whether what failed is not at fault, and may be tried until the server is back, however often that is."""
    if isinstance(error, asyncpg.InterfaceError):  # the class of wrong use as well
        return type(error) is asyncpg.InterfaceError and ("closed" in str(error) or "released" in str(error))
    return isinstance(error, CONNECTION_LOST) and not isinstance(error, TimeoutError)


async def _use_json(connection: Connection) -> None:
    for kind in ("json", "jsonb"):
        await connection.set_type_codec(kind, encoder=json.dumps, decoder=json.loads, schema="pg_catalog")


async def connect(url: str, schema: str, **settings: str) -> asyncpg.Connection[Any]:
    """A connection of its own, for advisory locks and committers."""
    connection = await _reach(
        url, timeout=10, server_settings={"search_path": f"{schema},public", "application_name": schema, **settings}
    )
    await _use_json(connection)
    return connection


async def _reach(*where: Any, **how: Any) -> asyncpg.Connection[Any]:
    try:
        connection: asyncpg.Connection[Any] = await asyncpg.connect(*where, **how)
    except ConnectionError:
        raise
    except OSError as error:
        raise Unreachable(str(error) or f"no answer within {how.get('timeout')} s") from error
    return connection


async def _as_it_is(_: Connection) -> None:
    pass


#: small statements, many at once: one that reads much must not take the cores from all the others
POOL_SETTINGS = {"jit": "off", "max_parallel_workers_per_gather": "0"}


async def create_pool(url: str, schema: str, *, size: int = 8, **settings: str) -> Pool:
    return await _pool(url, schema, size, settings)


async def create_reading_pool(url: str, schema: str, *, size: int = 8, **settings: str) -> Pool:
    """For statements that change nothing of their session, locks included: putting it right again behind them would cost
    each one a second round trip."""
    return await _pool(url, schema, size, settings, reset=_as_it_is)


async def _pool(url: str, schema: str, size: int, settings: dict[str, str], **how: Any) -> Pool:
    return await asyncpg.create_pool(
        url,
        min_size=1,
        max_size=size,
        timeout=10,
        command_timeout=30,
        max_inactive_connection_lifetime=120,
        connect=_reach,
        init=_use_json,
        server_settings={"search_path": f"{schema},public", "application_name": schema, **POOL_SETTINGS, **settings},
        **how,
    )


def affected(tag: Any) -> int:
    """How many rows a command touched, from its tag (`UPDATE 3`)."""
    return int(str(tag).rsplit(" ", 1)[-1])


def storable(text: str) -> str:
    """Without what Postgres refuses in text and jsonb: the words of a failure must not make another one."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
