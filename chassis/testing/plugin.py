"""The pytest plugin: Postgres and S3 of one worker, with a database and a bucket per test, and NATS of one test."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest

from chassis.keeper import Keeper
from chassis.roles import plain_url
from chassis.settings import ServiceSettings
from chassis.testing.clock import Clock
from chassis.testing.lending import Databases
from chassis.testing.servers import (
    Database,
    NatsServer,
    create_bucket,
    ensure_template,
    object_store_of,
)
from contracts.permissions import KEEPER
from deploy.local.home import Home, is_held
from deploy.local.parts import ready_now
from deploy.local.postgres import Postgres
from deploy.local.s3 import S3

#: Servers that exist already: TEST_NATS_URL, or NATS_URL as all else reads it. Read once: tests change it.
GIVEN = {
    n: os.environ.get(f"TEST_{n}") or os.environ.get(n, "") for n in ("NATS_URL", "DATABASE_URL", "S3_ENDPOINT_URL")
}

S = TypeVar("S", bound=ServiceSettings)
SettingsOf = Callable[..., Any]

PREFIX = "fluidcrew-test-"
LOCKLESS = 3600.0  # seconds that a directory may be without a lock: those of single tests have none
FRESH = 60.0  # seconds in which nobody looks at a directory: its worker is about to lock it

# A process that is killed loses nothing by these; only a power cut would, and tests have none.
UNSAFE_BUT_FAST = {"fsync": "off", "full_page_writes": "off", "autovacuum": "off"}


def _make_home() -> Home:
    # Not below pytest's own directory: that is private to root, and Postgres runs as another user then.
    home = Home(Path(tempfile.mkdtemp(prefix=PREFIX)))
    home.prepare()
    return home


@pytest.fixture
async def clock() -> Clock:
    return Clock(asyncio.get_running_loop())


@pytest.fixture(scope="session")
def infra_home() -> Iterator[Home]:
    """The data directory of this worker's servers."""
    sweep(Path(tempfile.gettempdir()))
    home = _make_home()
    with home.locked():
        yield home
    shutil.rmtree(home.path, ignore_errors=True)


def sweep(directory: Path) -> None:
    """What test runs left that were killed: nobody holds it any more."""
    for left in directory.glob(f"{PREFIX}*"):
        with suppress(OSError):  # somebody else's, or gone meanwhile
            age = time.time() - left.stat().st_mtime
            if age > (FRESH if (left / "lock").exists() else LOCKLESS) and not is_held(left):
                shutil.rmtree(left)


@pytest.fixture(scope="session")
def postgres_admin_url(infra_home: Home) -> Iterator[str]:
    """A superuser's URL of a server; `database` is what most tests want."""
    if given := GIVEN["DATABASE_URL"]:
        yield plain_url(given)
        return
    server = Postgres(infra_home, **UNSAFE_BUT_FAST)
    server.launch()
    ready_now(server)
    yield server.url()
    server.child.stop_now()


@pytest.fixture(scope="session")
def database_template(postgres_admin_url: str) -> str:
    return asyncio.run(ensure_template(postgres_admin_url))


@pytest.fixture(scope="session")
def databases(postgres_admin_url: str, database_template: str) -> Iterator[Databases]:
    made = Databases(postgres_admin_url, database_template)
    yield made
    asyncio.run(made.drop())


@pytest.fixture
def database(databases: Databases) -> Iterator[Database]:
    """A migrated database that nobody else sees, as the migrations leave it."""
    lent = asyncio.run(databases.lend())
    yield lent
    asyncio.run(databases.take_back(lent))


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A server of this test's own, without streams: it may be broken at will."""
    home = Home(tmp_path / "nats-home")
    home.prepare()
    server = NatsServer(home, GIVEN["NATS_URL"])
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def keeper(nats_server: NatsServer) -> AsyncIterator[Keeper]:
    """Streams and consumers as in production; the test decides whether it runs on."""
    keeper = Keeper(nats_server.url())
    await keeper.apply()
    yield keeper
    await keeper.close()


@pytest.fixture
def nats_url(nats_server: NatsServer) -> str:
    """As the keeper, who may do everything."""
    return nats_server.url(KEEPER)


@pytest.fixture(scope="session")
def _object_store(infra_home: Home) -> Iterator[S3 | None]:
    if GIVEN["S3_ENDPOINT_URL"]:
        yield None
        return
    server = S3(infra_home, "fluidcrew")
    server.launch()
    ready_now(server)
    yield server
    server.child.stop_now()


@pytest.fixture
def object_store_settings(_object_store: S3 | None) -> dict[str, str]:
    """The variables of an object store, as a service gets them; the bucket is empty and this test's own."""
    if _object_store is None:
        return object_store_of(os.environ)
    settings = {
        "S3_ENDPOINT_URL": _object_store.url,
        "S3_BUCKET": f"test-{uuid.uuid4().hex[:12]}",
        "S3_ACCESS_KEY_ID": _object_store.access_key,
        "S3_SECRET_ACCESS_KEY": _object_store.secret_key,
    }
    asyncio.run(create_bucket(settings))
    return settings


@pytest.fixture
def object_store(object_store_settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The same, where the settings of services are read from."""
    for name, value in object_store_settings.items():
        monkeypatch.setenv(name, value)
    return object_store_settings


@pytest.fixture
def settings_of(database: Database, nats_server: NatsServer) -> SettingsOf:
    """A service's as it is run: `settings_of(ServiceSettings, "planner", lease=2.0)` has its own bus user and role."""

    def settings(kind: type[S], service: str, **fields: Any) -> S:
        urls: dict[str, Any] = {"nats_url": nats_server.url(service), "database_url": database.url_for(service)}
        return kind(**urls, drain_timeout=3.0, env="test", **fields)

    return settings
