"""A service of two lines on the real servers, for what the chassis promises to every service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from uuid import UUID, uuid4

import pytest

from chassis.keeper import Keeper
from chassis.service import Build, Chassis, running
from chassis.settings import ServiceSettings
from chassis.testing.servers import Database, NatsServer
from contracts import executor

Start = Callable[[str, Build], AbstractAsyncContextManager[Chassis]]


@pytest.fixture
async def keeper(nats_server: NatsServer) -> AsyncIterator[Keeper]:
    """Streams and consumers as in production; the test decides whether it runs on."""
    keeper = Keeper(nats_server.url())
    await keeper.apply()
    yield keeper
    await keeper.close()


@pytest.fixture
def start(
    database: Database,
    nats_server: NatsServer,
    object_store_settings: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    keeper: Keeper,
) -> Start:
    """Run a service inside this process, with its own database role and its own user of the bus."""
    for name, value in object_store_settings.items():
        monkeypatch.setenv(name, value)

    def _start(name: str, build: Build) -> AbstractAsyncContextManager[Chassis]:
        settings = ServiceSettings(
            nats_url=nats_server.url(name), database_url=database.url_for(name), drain_timeout=3.0, env="test"
        )
        return running(name, settings, build)

    return _start


async def nothing(chassis: Chassis) -> None:
    """A service that does nothing of its own."""


def fact(run_id: UUID | None = None, nodes: int = 1) -> executor.RunCompleted:
    return executor.RunCompleted(
        run_id=run_id or uuid4(), title="t", nodes_completed=nodes, nodes_skipped=0, cost_usd="0", tokens=0
    )
