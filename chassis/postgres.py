"""The pool of a service: its own schema first on the path, jsonb as Python objects, no statement without an end."""

from __future__ import annotations

import json
from typing import Any, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

Pool: TypeAlias = "asyncpg.Pool[Any]"
#: a connection of one's own, or one that a pool lent
Connection: TypeAlias = "asyncpg.Connection[Any] | PoolConnectionProxy[Any]"

#: asyncpg raises these when the server went away: the work is not at fault and comes back. An InternalClientError is
#: what a query gets that begins between the server's last words and the end of its stream
CONNECTION_LOST = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,
)


async def _use_json(connection: Connection) -> None:
    for kind in ("json", "jsonb"):
        await connection.set_type_codec(kind, encoder=json.dumps, decoder=json.loads, schema="pg_catalog")


async def connect(url: str, schema: str, **settings: str) -> asyncpg.Connection[Any]:
    """A connection of its own, for advisory locks and committers."""
    connection = await asyncpg.connect(
        url, timeout=10, server_settings={"search_path": f"{schema},public", "application_name": schema, **settings}
    )
    await _use_json(connection)
    return connection


async def create_pool(url: str, schema: str, *, size: int = 8) -> Pool:
    return await asyncpg.create_pool(
        url,
        min_size=1,
        max_size=size,
        timeout=10,
        command_timeout=30,
        max_inactive_connection_lifetime=120,
        init=_use_json,
        server_settings={"search_path": f"{schema},public", "application_name": schema, "jit": "off"},
    )


def affected(tag: Any) -> int:
    """How many rows a command touched, from its tag (`UPDATE 3`)."""
    return int(str(tag).rsplit(" ", 1)[-1])


def storable(text: str) -> str:
    """Without what Postgres refuses in text and jsonb: the words of a failure must not make another one."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
