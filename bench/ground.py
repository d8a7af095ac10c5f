"""The ground of a comparison: one directory and one Postgres for everybody, which notes the instant of every commit."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from chassis import roles
from deploy.local.home import Home
from deploy.local.parts import ready
from deploy.local.postgres import Postgres

LOG_FILES = 40  # of 16 MiB: enough for the rounds of a comparison


@dataclass(frozen=True, slots=True)
class Ground:
    directory: Path
    postgres: Postgres

    def home(self, name: str) -> Path:
        """Data directories share their secrets, as the server knows only one password of each role."""
        path = self.directory / name
        (path / "secrets").parent.mkdir(exist_ok=True)
        if not (path / "secrets").exists():
            (path / "secrets").symlink_to(self.directory / "secrets")
        return path

    async def database(self, name: str) -> str:
        """The URL of a database of that name, made when it is not there."""
        await roles.create_database(self.postgres.url(), name)
        return self.postgres.url(name)

    @property
    def postgres_pid(self) -> int:
        pid = self.postgres.child.pid
        assert pid is not None, "it runs as long as the ground is there"
        return pid


async def _wear_in(url: str) -> None:
    """A server that has worked for a while writes its log into old files; one that was just made has to make each first."""
    connection = await asyncpg.connect(url)
    try:
        for _ in range(LOG_FILES):
            await connection.execute("select pg_logical_emit_message(true, 'bench', 'x'), pg_switch_wal()")
        await connection.execute("checkpoint")
    finally:
        await connection.close()


@asynccontextmanager
async def ground() -> AsyncIterator[Ground]:
    with tempfile.TemporaryDirectory(prefix="fluidcrew-bench-") as name:
        directory = Path(name)
        os.chmod(directory, 0o755)
        home = Home(directory)
        home.prepare()
        postgres = Postgres(home, track_commit_timestamp="on", min_wal_size="1GB")
        postgres.launch()
        try:
            await ready(postgres)
            await _wear_in(postgres.url())
            yield Ground(directory, postgres)
        finally:
            await postgres.child.stop()
