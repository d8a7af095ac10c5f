"""The servers that tests run against: the embedded ones, started per worker or per test, or those of TEST_*_URL."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

import asyncpg
import pytest

from chassis import roles
from chassis.blobs import session
from chassis.migrate import migrate
from chassis.testing.emptying import WATCH, watch
from contracts.permissions import CLI, KEEPER, permissions
from contracts.subjects import SERVICES
from deploy.local.environment import CHECKOUT
from deploy.local.home import Home
from deploy.local.nats import Nats
from deploy.local.parts import ready_now

TEMPLATE_LOCK = 0x7465737473


class NatsServer:
    """A NATS server of one test, with the users of production. It may be killed, restarted and robbed of its store."""

    def __init__(self, home: Home, given: str = "") -> None:
        self._given = given
        self._nats = None if given else Nats(home, {user: permissions(user) for user in (*SERVICES, CLI, KEEPER)})

    def start(self) -> None:
        if self._nats is not None:
            self._nats.launch()
            ready_now(self._nats)

    def url(self, user: str = KEEPER) -> str:
        return self._given or self._ours().url(user)

    def kill(self) -> None:
        """kill -9, and gone when this returns."""
        child = self._ours().child
        child.signal(signal.SIGKILL)
        if child.process is not None:
            child.process.wait(10)

    def freeze(self) -> None:
        """It stops running, and its connections stay open."""
        self._ours().child.signal(signal.SIGSTOP)

    def restart(self) -> None:
        """On the same port; kills it first when it runs."""
        self.kill()
        self.start()

    def wipe(self) -> None:
        """The broker's disk is lost while everything else is up: dead, emptied, back on the same port."""
        self.kill()
        shutil.rmtree(self._ours().store, ignore_errors=True)
        self.start()

    def stop(self) -> None:
        if self._nats is not None:
            self._nats.child.signal(signal.SIGKILL)
            self._nats.child.stop_now()

    def _ours(self) -> Nats:
        if self._nats is None:
            pytest.skip("TEST_NATS_URL names a server that this test may not break")
        return self._nats


@dataclass(frozen=True, slots=True)
class Database:
    """A database of one test, migrated for every service. `str()` of it is the administrator's URL."""

    name: str
    url: str
    services: dict[str, str]

    def __str__(self) -> str:
        return self.url

    def url_for(self, service: str) -> str:
        """As the service itself connects: its own role, rights on its own schema only."""
        return self.services[service]


def migrated_services() -> list[str]:
    return [s for s in SERVICES if (CHECKOUT / "services" / s / "migrations").is_dir()]


async def ensure_template(admin_url: str) -> str:
    """The name of a database with every migration applied; made once per set of migrations and server."""
    name = f"fluidcrew_template_{_digest()}"
    admin = await asyncpg.connect(admin_url)
    try:
        await admin.execute("select pg_advisory_lock($1)", TEMPLATE_LOCK)
        if not await admin.fetchval(
            "select exists (select from pg_database where datname = $1 and datistemplate)", name
        ):
            await admin.execute(f'drop database if exists "{name}" with (force)')
            await roles.create_database(admin_url, name)
            await _fill(roles.database_url(admin_url, name))
            await admin.execute(f'alter database "{name}" is_template true')
    finally:
        await admin.close()
    return name


async def create_database(admin_url: str, template: str) -> Database:
    name = f"test_{uuid.uuid4().hex[:16]}"
    admin = await asyncpg.connect(admin_url)
    try:
        await admin.execute(f'create database "{name}" template "{template}" strategy wal_log')
    finally:
        await admin.close()
    url = roles.database_url(admin_url, name)
    return Database(name, url, {s: roles.url_for(url, s, p) for s, p in _passwords().items()})


async def drop_database(admin_url: str, database: Database) -> None:
    admin = await asyncpg.connect(admin_url)
    try:
        await admin.execute(f'drop database if exists "{database.name}" with (force)')
    finally:
        await admin.close()


async def _fill(url: str) -> None:
    made = await roles.bootstrap_roles(url, _passwords(), ours=True)
    for service in migrated_services():
        await migrate(made.urls[service], service, CHECKOUT / "services" / service / "migrations")
    admin = await asyncpg.connect(url)
    try:
        await watch(admin)
    finally:
        await admin.close()


def _passwords() -> dict[str, str]:
    """Fixed, so that parallel workers on one external server agree."""
    return {service: f"test-{service}" for service in SERVICES}


def _digest() -> str:
    """Names the migrations: a changed file makes another template. Everything that decides what is in it counts."""
    digest = hashlib.sha256(WATCH.encode())
    for directory in (CHECKOUT / "chassis", *(CHECKOUT / "services" / s for s in SERVICES)):
        for file in sorted((directory / "migrations").glob("*.sql")):
            digest.update(str(file.relative_to(CHECKOUT)).encode() + file.read_bytes())
    return digest.hexdigest()[:12]


def object_store_of(environ: dict[str, str] | os._Environ[str]) -> dict[str, str]:
    """The settings of an S3 endpoint given by TEST_S3_* or S3_*."""
    names = ("S3_ENDPOINT_URL", "S3_BUCKET", "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY")
    return {name: environ.get(f"TEST_{name}") or environ.get(name, "") for name in names}


async def create_bucket(settings: Mapping[str, str]) -> None:
    """By the API: a directory made behind rclone's back stays unseen while its list of buckets is cached."""
    url = settings["S3_ENDPOINT_URL"]
    async with session("us-east-1").client(
        "s3",
        endpoint_url=url,
        verify=None if url.startswith("https:") else False,  # else it reads every authority there is
        aws_access_key_id=settings["S3_ACCESS_KEY_ID"],
        aws_secret_access_key=settings["S3_SECRET_ACCESS_KEY"],
    ) as client:
        await client.create_bucket(Bucket=settings["S3_BUCKET"])
