"""Forward-only plain-SQL migrations: one directory per service, one version table per schema, one transaction per file."""

from __future__ import annotations

import hashlib
import re
from importlib import resources
from pathlib import Path

import asyncpg

from contracts.errors import FluidcrewError

NAME = re.compile(r"^\d{4}_[a-z0-9_]+\.sql$")
CHASSIS = Path(str(resources.files("chassis"))) / "migrations"

VERSIONS = """
create table if not exists schema_migrations (
    version text primary key,
    checksum text not null,
    applied_at timestamptz not null default clock_timestamp()
)
"""


class EditedMigration(FluidcrewError):
    """A migration that has been applied was changed afterwards; add a new file instead."""


def _lock_key(schema: str) -> int:
    return int.from_bytes(hashlib.blake2b(schema.encode(), digest_size=8).digest(), "big", signed=True)


def _files(directory: Path, prefix: str) -> list[tuple[str, str]]:
    paths = sorted(p for p in directory.iterdir() if NAME.match(p.name)) if directory.is_dir() else []
    return [(f"{prefix}{p.name}", p.read_text(encoding="utf-8")) for p in paths]


async def _apply(connection: asyncpg.Connection, version: str, sql: str, checksum: str) -> None:
    async with connection.transaction():
        await connection.execute("set local lock_timeout = '3s'")
        await connection.execute(sql)
        await connection.execute("insert into schema_migrations (version, checksum) values ($1, $2)", version, checksum)


async def migrate(dsn: str, schema: str, directory: Path) -> list[str]:
    """Bring a schema up to date: the chassis' tables first, then the service's. Returns what was applied.

    Safe to run from several processes at once. Raises EditedMigration when an applied file has changed.
    """
    connection = await asyncpg.connect(dsn, server_settings={"search_path": f"{schema},public"})
    applied: list[str] = []
    try:
        await connection.execute("select pg_advisory_lock($1)", _lock_key(schema))
        if not await connection.fetchval("select to_regnamespace($1) is not null", schema):
            await connection.execute(f'create schema "{schema}"')
        await connection.execute(VERSIONS)
        rows = await connection.fetch("select version, checksum from schema_migrations")
        known = {row["version"]: row["checksum"] for row in rows}
        for version, sql in [*_files(CHASSIS, "chassis/"), *_files(directory, "")]:
            checksum = hashlib.sha256(sql.encode()).hexdigest()
            if version not in known:
                await _apply(connection, version, sql, checksum)
                applied.append(version)
            elif known[version] != checksum:
                raise EditedMigration(f"{schema}/{version} was edited after it was applied; add a new file instead")
        return applied
    finally:
        await connection.close()
