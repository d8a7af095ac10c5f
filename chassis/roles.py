"""One Postgres role per service, owner of the schema of its name and without a right on any other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg

LOCK = 0x666C7569  # advisory: two supervisors on one external server take turns


class RolesRefused(Exception):
    """The roles cannot be used as they are; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Roles:
    """How each service connects. `warning` is set when the server made us do with less than we wanted."""

    urls: dict[str, str]
    warning: str = ""


def plain_url(url: str) -> str:
    """`postgresql+asyncpg://…`, which the predecessor's users have in their environment, as asyncpg reads it."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme.split('+', 1)[0]}{separator}{rest}"


def url_for(url: str, user: str, password: str) -> str:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{quote(user, safe='')}:{quote(password, safe='')}@{host}"))


def database_url(url: str, database: str) -> str:
    """The same server and user, another database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))


@dataclass(frozen=True, slots=True)
class Server:
    """What a server is, for those who have to judge it. `vector` is the version of pgvector, empty without it."""

    major: int
    vector: str
    may_create_roles: bool

    @property
    def has_vector(self) -> bool:
        return bool(self.vector) and tuple(int(n) for n in self.vector.split(".")[:2]) >= (0, 8)


async def describe_server(url: str) -> Server:
    connection = await asyncpg.connect(plain_url(url), timeout=5)
    try:
        may_create = "select rolsuper or rolcreaterole from pg_roles where rolname = current_user"
        available = "select default_version from pg_available_extensions where name = 'vector'"
        return Server(
            major=connection.get_server_version().major,
            vector=await connection.fetchval(available) or "",
            may_create_roles=await connection.fetchval(may_create),
        )
    finally:
        await connection.close()


async def create_database(admin_url: str, name: str) -> None:
    """Creates the database unless it is there."""
    connection = await asyncpg.connect(plain_url(admin_url))
    try:
        if not await connection.fetchval("select exists (select from pg_database where datname = $1)", name):
            await connection.execute(f'create database "{name}" strategy wal_log')
    finally:
        await connection.close()


async def bootstrap_roles(admin_url: str, passwords: Mapping[str, str], *, ours: bool = False) -> Roles:
    """Makes roles and schemas in the URL's database.

    On a server that is `ours` passwords are set to the given ones; elsewhere a role that exists keeps its own,
    because a fleet may be using it.
    """
    admin_url = plain_url(admin_url)
    connection = await asyncpg.connect(admin_url)
    try:
        await connection.execute("select pg_advisory_lock($1)", LOCK)
        warning = await _install_vector(connection)
        if not await connection.fetchval("select rolsuper or rolcreaterole from pg_roles where rolname = current_user"):
            await _schemas_without_roles(connection, passwords)
            alone = "this Postgres lets us create no roles: all services share one, only their schemas are apart"
            return Roles(dict.fromkeys(passwords, admin_url), "; ".join(filter(None, (alone, warning))))
        for service, password in passwords.items():
            await _ensure_role(connection, admin_url, service, password, ours)
        await _open_to(connection, passwords)
        if ours:
            await _close_to_others(connection)
        return Roles(
            {service: url_for(admin_url, service, password) for service, password in passwords.items()}, warning
        )
    finally:
        await connection.close()


async def _install_vector(connection: asyncpg.Connection) -> str:
    try:
        await connection.execute("create extension if not exists vector schema public")
    except asyncpg.PostgresError as error:
        return f"pgvector is not available ({error}): knowledge spaces will not work"
    return ""


async def _schemas_without_roles(connection: asyncpg.Connection, services: Mapping[str, str]) -> None:
    for service in services:
        await connection.execute(f'create schema if not exists "{service}"')


async def _ensure_role(connection: asyncpg.Connection, admin_url: str, role: str, password: str, ours: bool) -> None:
    exists = await connection.fetchval("select exists (select from pg_roles where rolname = $1)", role)
    if not exists:
        await _run(connection, "create role %I login password %L", role, password)
    elif ours:
        await _run(connection, "alter role %I login password %L", role, password)
    else:
        await _check_login(url_for(admin_url, role, password), role)
    if not await connection.fetchval("select pg_has_role(current_user, $1, 'SET')", role):
        await _run(connection, "grant %I to current_user", role)
    await _run(connection, "create schema if not exists %I authorization %I", role, role)


async def _check_login(url: str, role: str) -> None:
    try:
        await (await asyncpg.connect(url)).close()
    except asyncpg.InvalidPasswordError:
        raise RolesRefused(
            f"role {role!r} exists on that server with another password than ours: "
            f"give its connection as {role.upper()}_DATABASE_URL"
        ) from None


async def _open_to(connection: asyncpg.Connection, services: Mapping[str, str]) -> None:
    database = await connection.fetchval("select current_database()")
    for role in services:
        await _run(connection, "grant connect, temporary on database %I to %I", database, role)
        await _run(connection, "grant usage on schema public to %I", role)
        await _run(connection, "alter role %I in database %I set search_path = %I, public", role, database, role)


async def _close_to_others(connection: asyncpg.Connection) -> None:
    """What Postgres grants to everybody. On a server of somebody else, other users may rely on it."""
    database = await connection.fetchval("select current_database()")
    await _run(connection, "revoke all on database %I from public", database)
    await connection.execute("revoke all on schema public from public")


async def _run(connection: asyncpg.Connection, statement: str, *values: str) -> None:
    """Runs a statement that takes no parameters: the server itself quotes the identifiers (%I) and literals (%L)."""
    await connection.execute(
        await connection.fetchval("select format($1, variadic $2::text[])", statement, list(values))
    )
